"""Rootless Podman, and RootlessKit (the basis of rootless Docker), in a Debian tree with mount and PID namespaces of its own."""

import pathlib
import platform
import shutil
import subprocess

import pytest

from accounts import SUBUIDS, UID
from images import podman_tree
from instance import wait_until

# Unpacks the tree and makes it the root of the mount namespace. `box` in the tree is the root directory of Podman's containers.
# crun can refuse to run if cgroup v1 and v2 are both mounted, so v2 is unmounted in this case. /dev/net/tun gets the mode that
# udev sets: all users can open it.
PREPARE = f"""
mount -t tmpfs -o size=1g,mode=755 tmpfs /mnt
tar -C /mnt -xf "$1"
cd /mnt
echo app:x:{UID}:{UID}::/home/app:/bin/sh >>etc/passwd
echo app:{SUBUIDS[0]}:65536 | tee etc/subuid >etc/subgid
mkdir -p home/app run/user/{UID} old box/bin box/dev box/etc box/proc box/run box/sys box/tmp
cp "$2" box/bin/
for applet in sh nc printf; do ln -s busybox box/bin/$applet; done
chown -R {UID}:{UID} home/app run/user/{UID} box
mount --rbind /dev dev
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
umount sys/fs/cgroup/unified 2>/dev/null || true
mknod -m 666 tun c 10 200
mount --bind tun dev/net/tun
pivot_root . old
umount -l old
echo ready
exec sleep infinity
"""
PODMAN = ("podman", "--cgroup-manager=cgroupfs", "--events-backend=file", "run", "--rm", "--cgroups=disabled")
ASK = r"""printf "GET $0 HTTP/1.0\r\n\r\n" | nc -w 3 $1 80"""
ROOTLESSKIT = ("rootlesskit", "--mtu=65520", "--disable-host-loopback", "--copy-up=/etc", "--ipv6")
IN_CONTAINER = ("--rootfs", "/box:O", "sh", "-c", ASK)
# The command for each kind of network; the path and the address of the request are appended as arguments.
WAYS = {
    "Podman, pasta": (*PODMAN, "--network=pasta", *IN_CONTAINER),
    "Podman, slirp4netns": (*PODMAN, "--network=slirp4netns:enable_ipv6=true", *IN_CONTAINER),
    "Podman, host": (*PODMAN, "--network=host", *IN_CONTAINER),
    "Podman, host, another user": (*PODMAN, "--network=host", "--user=33", *IN_CONTAINER),
    "RootlessKit, slirp4netns": (*ROOTLESSKIT, "--net=slirp4netns", "sh", "-c",
                                  'until ip -6 route | grep -q default && ! ip -6 address | grep -q tentative; do sleep 0.1; done; curl -sg -m 3 "http://$1$0"'),
}


class Rootless:
    def __init__(self):
        if platform.freedesktop_os_release()["ID"] != "debian":
            pytest.skip("rootless.py: this machine's sources are not Debian's")
        self._init = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", PREPARE, "sh", podman_tree(), shutil.which("busybox")],
                                      stdout=subprocess.PIPE, text=True)
        assert self._init.stdout.readline() == "ready\n"
        children = pathlib.Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children")
        self._pid = wait_until(children.read_text, what="its first process").split()[0]

    def role(self, host, way, address, path):
        """Returns the role that a container of the user sees on this host; None if there is no response."""
        url_address = f"[{address}]" if ":" in address and "curl" in WAYS[way][-1] else address
        asked = host.ec2.run("nsenter", "--target", self._pid, "--mount", "--pid", "setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups",
                             "env", "--ignore-environment", "--chdir=/home/app", "HOME=/home/app", f"XDG_RUNTIME_DIR=/run/user/{UID}",
                             "PATH=/usr/bin:/bin:/usr/sbin:/sbin", *WAYS[way], path, url_address, check=False, timeout=60)
        lines = asked.stdout.splitlines()
        assert lines or "Error:" not in asked.stderr, asked.stderr
        return lines[-1] if lines else None

    def close(self):
        self._init.kill()
        self._init.wait(10)
