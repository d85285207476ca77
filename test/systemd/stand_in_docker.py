"""Stands in for Docker: makes docker0 and a container on it (a network namespace) that polls the role's name all the time.

Each result that differs from the one before becomes a line of /var/log/answers; without a response it is `nobody: REASON`.
"""

import os
import subprocess
import threading
import time
import urllib.error
import urllib.request

LIST = "http://169.254.169.254/latest/meta-data/iam/security-credentials/"
ANSWERS = "/var/log/answers"


def run(command, check=True):
    subprocess.run(command.split(), check=check)


def make_bridge():
    run("ip link delete docker0", check=False)
    run("ip link delete veth0", check=False)  # netns delete returns before the kernel deletes the namespace's veth
    run("ip netns delete container", check=False)
    run("ip link add docker0 type bridge")
    run("ip address add 172.17.0.1/16 dev docker0")
    run("ip link set docker0 up")
    run("ip netns add container")
    run("ip link add veth0 type veth peer name eth0 netns container")
    run("ip link set veth0 master docker0 up")
    run("ip -n container link set lo up")
    run("ip -n container address add 172.17.0.9/16 dev eth0")
    run("ip -n container link set eth0 up")
    run("ip -n container route add default via 172.17.0.1")
    # Docker, too, masquerades packets from its network.
    run("iptables -w -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE")


def answer():
    try:
        with urllib.request.urlopen(LIST, timeout=2) as response:
            return response.read().decode()
    except urllib.error.HTTPError as error:
        return f"status {error.code}"
    except OSError as error:
        return f"nobody: {getattr(error, 'reason', error)}"


def poll():
    os.setns(os.open("/run/netns/container", os.O_RDONLY), os.CLONE_NEWNET)
    last = None
    with open(ANSWERS, "a", buffering=1) as log:
        while True:
            now = answer()
            if now != last:
                print(now, file=log)
            last = now
            time.sleep(0.03)


make_bridge()
# Python has os.setns only from 3.12 on. `poll` uses it to move its own thread, and no other, into the container's namespace.
if not hasattr(os, "setns"):
    import ctypes
    os.CLONE_NEWNET = 0x40000000
    os.setns = lambda fd, kind: ctypes.CDLL(None).setns(fd, kind)
threading.Thread(target=poll, daemon=True).start()
run("systemd-notify --ready")
threading.Event().wait()
