"""A network namespace of a test. It has no route out, and nothing done inside it changes the machine's network."""

import ctypes
import itertools
import os
import pathlib
import re
import subprocess
import threading

CLONE_NEWNET = 0x40000000
PREFIX = "ec2-role-test"
_number = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)


def _enter(fd):
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class NetworkNamespace:
    """Inside `with namespace:`, new sockets and child processes of the calling thread belong to the namespace."""

    def __init__(self, role):
        # The process id keeps concurrent runs apart, and lets a later run remove the namespaces of a killed one.
        self.name = f"{PREFIX}-{os.getpid()}-{next(_number)}-{role}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self._fd = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        self._before = threading.local()
        # Turn off duplicate address detection: while it runs, a bridge does not respond over IPv6, and a connection takes 2 s.
        with self:
            for interfaces in ("all", "default"):
                pathlib.Path(f"/proc/sys/net/ipv6/conf/{interfaces}/accept_dad").write_text("0")
        self.ip("link set lo up")

    def __enter__(self):
        stack = self._before.__dict__.setdefault("stack", [])
        stack.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        _enter(self._fd)
        return self

    def __exit__(self, *_):
        fd = self._before.stack.pop()
        _enter(fd)
        os.close(fd)

    def run(self, *command, check=True, **options):
        with self:
            return subprocess.run(command, check=check, capture_output=True, text=True, **options)

    def ip(self, *commands):
        """Runs several commands of ip in one process, because each process takes 2 ms of processor time."""
        self.run("ip", "-batch", "-", input="\n".join(commands))

    def remove(self):
        os.close(self._fd)
        subprocess.run(["ip", "netns", "delete", self.name], check=False)


def remove_what_killed_runs_left():
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else ():
        match = re.fullmatch(PREFIX + r"-(\d+)-\d+-\w+", name)
        if match and not os.path.exists(f"/proc/{match[1]}"):
            subprocess.run(["ip", "netns", "delete", name], check=False)


def join(one, address, other, other_address, device="eth0"):
    """Connects two namespaces with a veth pair. The addresses include the prefix length."""
    one.ip(f"link add {device} type veth peer name {device} netns {other.name}", f"address add {address} dev {device}", f"link set {device} up")
    other.ip(f"address add {other_address} dev {device}", f"link set {device} up")
