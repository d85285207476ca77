#!/usr/bin/env python3
"""Runs scripts/test in a tree of another Debian release, on this kernel: scripts/test --debian SUITE. Needs root and mmdebstrap.

The tree is made once and kept in target/debian/SUITE/root; what is built in the tree goes to target/debian/SUITE/target.
scripts/test, inside the tree, installs the packages that it needs. Toolchains and caches come from this user's home directory.
"""

import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "docker"))

from images import debian_tree
from instance import REPOSITORY

# Files that are copied into the tree, so that programs in it can reach the package registries.
OF_THIS_MACHINE = ("/etc/resolv.conf", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")

# Makes the tree the root of a mount namespace. chroot alone is not enough: each container gets a copy of the mount namespace, and
# `docker exec` starts commands at the root of that copy, outside the chroot. /tmp is the machine's, because a test puts a
# core_pattern program there, and the kernel looks for this program below the machine's root directory.
ENTER = r"""
mount --bind "$1" "$1"
cd "$1"
mount --rbind /dev dev
mount --rbind /sys sys
mount --rbind /proc proc
mount --bind /tmp tmp
mount -t tmpfs tmpfs run
for directory in "$HOME" "$2" "$3"; do
    mkdir -p ".$directory"
    mount --bind "$directory" ".$directory"
done
mount --bind "$4" ".$2/target"
pivot_root . mnt
exec chroot . sh -euc 'umount --lazy /mnt; cd "$1"; PATH=$HOME/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH; exec scripts/test' sh "$2"
"""


def tree_of(suite, place):
    root = place / "root"
    if not root.exists():
        archive = debian_tree(f"test-{suite}", "ca-certificates,git", suite)
        unpacked = place / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir(parents=True)
        subprocess.run(["tar", "--extract", "--preserve-permissions", "--numeric-owner", f"--file={archive}", f"--directory={unpacked}"], check=True)
        # `debian_sources` (docker/images.py) recognises the files with Debian's apt sources by name, such as debian.sources. So
        # remove the number that mmdebstrap puts before each name.
        for file in (unpacked / "etc/apt/sources.list.d").iterdir():
            file.rename(file.with_name(file.name.lstrip("0123456789")))
        unpacked.rename(root)
    for file in filter(os.path.exists, OF_THIS_MACHINE):
        shutil.copy(file, f"{root}{file}")
    return root


def main(suite):
    if os.geteuid() != 0:
        sys.exit("test: --debian: needs root")
    place = REPOSITORY / "target/debian" / suite
    root = tree_of(suite, place)
    (place / "target").mkdir(exist_ok=True)
    # Mount the git directory too, because the git directory of a worktree is outside REPOSITORY.
    git = subprocess.run(["git", "rev-parse", "--path-format=absolute", "--git-common-dir"], cwd=REPOSITORY, capture_output=True, text=True)
    os.execvp("unshare", ["unshare", "--mount", "sh", "-euc", ENTER, "sh", root, REPOSITORY, git.stdout.strip() or REPOSITORY, place / "target"])


main(*sys.argv[1:])
