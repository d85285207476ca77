"""Images that are made without a registry: a static busybox, Debian trees with a test's packages, and ec2-role's own image."""

import fcntl
import io
import pathlib
import platform
import shutil
import subprocess
import tarfile
import tempfile

from instance import REPOSITORY, clean_environment

BUSYBOX = "busybox"
CLIENT = "client"
CLIENT_PACKAGES = "awscli,python3-boto3,curl,iproute2"
CLIENT_SUITE = "forky"  # `aws login` needs the AWS CLI 2.32, and Debian 13 has 2.23
PODMAN_SUITE = "trixie"  # bookworm's Podman has no Quadlet
# The docker command is a separate package from Debian 13 on.
_release = platform.freedesktop_os_release()
DOCKER_PACKAGES = "docker.io,docker-cli" if _release["ID"] == "debian" and _release.get("VERSION_ID") != "12" else "docker.io"
# This machine's apt sources, in either format.
SOURCES = [
    file
    for file in (pathlib.Path("/etc/apt/sources.list"), *sorted(pathlib.Path("/etc/apt/sources.list.d").glob("*")))
    if file.suffix in (".list", ".sources") and file.exists()
]
MEMORY = "/dev/shm"
MAX_TREE_BYTES = 2 << 30


def busybox_tree():
    """A tar archive with the busybox binary and a symbolic link for each applet."""
    program = pathlib.Path(shutil.which("busybox")).read_bytes()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        file = tarfile.TarInfo("bin/busybox")
        file.size, file.mode = len(program), 0o755
        tar.addfile(file, io.BytesIO(program))
        for applet in ("sh", "nc", "httpd", "sleep", "printf", "mkdir", "ip", "cat", "id", "ls", "env", "od", "tr", "tail", "chown"):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return archive.getvalue()


def import_busybox(engine):
    engine.docker("import", "-", BUSYBOX, input=busybox_tree(), text=False)


def import_client(engine):
    engine.docker("import", debian_tree(CLIENT, CLIENT_PACKAGES, CLIENT_SUITE), CLIENT)


def machine_suite():
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def debian_sources(suite, directory):
    """Copies of this machine's apt sources for Debian's own packages, changed to another suite."""
    files = []
    for source in SOURCES:
        if source.name in ("sources.list", "debian.list", "debian.sources"):
            files.append(directory / source.name)
            files[-1].write_text(source.read_text().replace(machine_suite(), suite))
    return files


def podman_tree():
    """One tree for all hosts that need Podman or Debian 13, because making a tree takes 45 s of processor time."""
    return debian_tree("podman-hosts", "systemd,systemd-sysv,dbus,iproute2,iptables,nftables,firewalld,ufw,curl,procps,podman,netavark,aardvark-dns,"
                       "catatonit,crun,passt,slirp4netns,uidmap,rootlesskit,fuse-overlayfs,python3-boto3,rpm,cpio", PODMAN_SUITE)


def debian_tree(name, packages, suite=None):
    """A tar archive of a tree with these packages, of Debian's `suite` or this machine's release. Kept for later runs."""
    tree = REPOSITORY / f"target/docker/{name}.tar"
    tree.parent.mkdir(parents=True, exist_ok=True)
    # Concurrent test runs share the tree: the first run makes it, and the others wait for the lock.
    with tree.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.exists():
            with tempfile.TemporaryDirectory() as directory:
                make_tree(tree, packages, debian_sources(suite, pathlib.Path(directory)) if suite else SOURCES)
    return tree


def make_tree(tree, packages, sources):
    acquire = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True).stdout
    unfinished = tree.with_suffix(".part")
    # dpkg calls fsync for each file, so a tree that is made in memory takes half the time.
    memory = {"TMPDIR": MEMORY} if shutil.disk_usage(MEMORY).free > MAX_TREE_BYTES else {}
    # Disable firewalld's service, which its package enables: only some tests want it.
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "--format=tar", f"--include={packages}", f"--aptopt={acquire}",
                    '--customize-hook=rm -f "$1/etc/systemd/system/multi-user.target.wants/firewalld.service"', "", str(unfinished), *map(str, sources)],
                   stdin=subprocess.DEVNULL, check=True, env={**clean_environment(), **memory})
    unfinished.rename(tree)


def changed_tree(directory, changes=(), without=()):
    """A tree like the repository's, without some of its files, and with `changes` in Cargo.toml and Cargo.lock."""
    for entry in REPOSITORY.iterdir():
        if not entry.name.startswith("Cargo.") and entry.name not in ("scripts", *without):
            (directory / entry.name).symlink_to(entry)
    # Copy the scripts: through a symbolic link they would work on the repository itself.
    shutil.copytree(REPOSITORY / "scripts", directory / "scripts")
    for name in ("Cargo.toml", "Cargo.lock"):
        text = (REPOSITORY / name).read_text()
        for old, new in changes:
            text = text.replace(old, new)
        (directory / name).write_text(text)
    return directory


def build_ec2_role(engine, *options):
    """Runs scripts/image as an operator does, and returns its output."""
    return subprocess.run([REPOSITORY / "scripts/image", *options], capture_output=True, text=True, check=True,
                          env=engine.environment).stdout
