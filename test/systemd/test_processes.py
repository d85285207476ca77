"""Tests the set-ups of scripts/README.md that survive a boot, for rootless engines and for containers on the host's network."""

import pytest

from firewalls import ASK, FirewallHost
from instance import wait_until
from readme import OPERATING, block
from real_metadata import HOST_ROLE, LIST

URL = f"http://169.254.169.254{LIST}"
# Plays a rootless container that starts as early as a service can, and logs each answer that differs from the previous one.
EARLY = f"""[Unit]
Description=Plays a rootless container
[Service]
User=app
ExecStart=/bin/sh -c 'while :; do now=$$(curl -s -m 1 {URL}); [ "$$now" = "$$last" ] || echo "$$now" >>/home/app/answers; last=$$now; done'
[Install]
WantedBy=multi-user.target
"""
SUDO = """#!/bin/sh
if [ "$1" = -u ]; then uid=$(id -u "$2"); shift 2; set -- setpriv --reuid="$uid" --clear-groups "$@"; fi
exec "$@"
"""


def serve_on_loopback(host):
    """Starts ec2-role@app, which listens on loopback and serves exc_web."""
    host.configure("app", "exc_web", EC2_ROLE_BRIDGE="")
    host.put("[Socket]\nListenStream=\nListenStream=127.0.0.1:4567\n", "/etc/systemd/system/ec2-role@app.socket.d/loopback.conf")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "enable", "--now", "ec2-role@app.socket")
    host.wait_until_active("ec2-role@app")


def test_no_boot_shows_a_users_containers_the_hosts_role(fresh_host):
    host = fresh_host
    host.run("useradd", "--create-home", "app")
    answers = lambda: host.run("cat", "/home/app/answers", check=False).stdout
    host.put(EARLY, "/etc/systemd/system/early.service")
    host.run("systemctl", "enable", "--now", "early")
    wait_until(lambda: HOST_ROLE in answers(), what="the host's role, without ec2-role")
    host.install()
    serve_on_loopback(host)
    host.run("sh", "-euc", block("Rootless engines", "sh", 1, OPERATING))
    host.run("systemctl", "stop", "early")
    for _ in range(2):
        host.run("rm", "-f", "/home/app/answers")
        host.reboot()
        wait_until(lambda: "exc_web" in answers(), what="the role")
        assert HOST_ROLE not in answers()
    host.put(SUDO, "/usr/local/bin/sudo", "0755")
    assert host.run("sh", "-euc", block("Rootless engines", "sh", 0, OPERATING)).stdout == "ok: app → 127.0.0.1:4567 (exc_web)\nexc_web"
    assert host.run("curl", "-s", URL).stdout == HOST_ROLE
    host.run("sh", "-euc", block("Rootless engines", "sh", 2, OPERATING))
    assert host.run("setpriv", "--reuid=app", "--clear-groups", "curl", "-s", URL).stdout == HOST_ROLE
    host.run("ec2-role-guard", "status")


@pytest.fixture
def docker_host(engine, aws):
    with FirewallHost(engine, "Docker", "none") as host:
        yield host


def test_a_container_on_the_hosts_network_has_the_slices_role(docker_host):
    host = docker_host
    host.put('{"exec-opts": ["native.cgroupdriver=systemd"]}\n', "/etc/docker/daemon.json")
    host.run("systemctl", "restart", "docker")
    serve_on_loopback(host)
    run = ("docker", "run", "--rm", "--network", "host", "busybox", "sh", "-c", ASK)
    in_slice = (*run[:3], "--cgroup-parent", "exc_web.slice", *run[3:])
    assert host.run(*in_slice).stdout == HOST_ROLE
    host.run("sh", "-euc", block("Containers on the host's network", "sh", 0, OPERATING))
    # The second container shows that the cgroup stays after the first one has ended.
    assert host.run(*in_slice).stdout == host.run(*in_slice).stdout == "exc_web"
    assert host.run(*run).stdout == host.run("curl", "-s", URL).stdout == HOST_ROLE
    host.reboot()
    host.wait_until_active("ec2-role@app")
    host.wait_until_active("docker")
    assert host.run(*in_slice).stdout == "exc_web"
    assert "/exc_web.slice → 127.0.0.1:4567 (exc_web)" in host.run("ec2-role-hook", "status").stdout
    host.run("sh", "-euc", block("Containers on the host's network", "sh", 1, OPERATING))
    assert host.run(*in_slice).stdout == HOST_ROLE
