"""Runs tests with the Docker Engine and Compose of Debian 14: older ones do not know gw_priority, and give an internal network a
default route."""

import os
import pathlib
import subprocess
import sys

import pytest

from images import debian_tree
from instance import REPOSITORY

# Runs docker or dockerd in the tree, with the test's files mounted under their own paths. For dockerd the tree becomes the root
# of the mount namespace. With chroot alone, `docker exec` would run in the machine's root directory (test/debian.py).
ENTER = """#!/bin/sh
exec unshare --mount sh -euc '
    root=$1 before=$PWD
    shift
    mount --bind "$root" "$root"
    for directory in /dev /sys /proc /tmp {repository}; do mkdir -p "$root$directory"; mount --rbind "$directory" "$root$directory"; done
    PATH=/usr/sbin:/usr/bin
    cd "$root"
    [ "$1" != dockerd ] || {{ mount -t tmpfs tmpfs run; pivot_root . mnt; root=.; }}
    exec chroot "$root" sh -euc "umount --lazy /mnt 2>/dev/null || true; cd \\"\\$1\\"; shift; exec \\"\\$@\\"" sh "$before" "$@"' sh {root} {program} "$@"
"""


@pytest.fixture
def newer_docker(tmp_path):
    """The directory of programs that run Debian 14's docker and dockerd."""
    root, programs = tmp_path / "root", tmp_path / "bin"
    tree = debian_tree("newer-docker", "docker.io,docker-cli,docker-compose,iptables,ca-certificates", "forky")
    for directory in (root, programs):
        directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root], check=True)
    try:
        subprocess.run(["tar", "--extract", "--preserve-permissions", "--numeric-owner", f"--file={tree}", f"--directory={root}"], check=True)
        for program in ("docker", "dockerd"):
            (programs / program).write_text(ENTER.format(root=root, program=program, repository=REPOSITORY))
            (programs / program).chmod(0o755)
        yield programs
    finally:
        subprocess.run(["umount", "--lazy", root], check=True)


def test_tests_of_network_choice_pass_with_newer_docker(newer_docker):
    environment = {**os.environ, "PATH": f"{newer_docker}:{os.environ['PATH']}"}
    tests = [pathlib.Path(__file__).with_name(name) for name in ("test_readme.py", "test_network_commands.py", "test_troubleshooting.py")]
    ran = subprocess.run([sys.executable, "-m", "pytest", "-v", *tests, "-k", "on_two_networks_gets or keeps_the_priority or internal_network"],
                         env=environment, capture_output=True, text=True)
    assert ran.returncode == 0 and "4 passed" in ran.stdout, ran.stdout
