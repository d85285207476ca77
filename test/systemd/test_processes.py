"""Tests the set-ups of scripts/README.md that survive a boot, for rootless engines and for containers on the host's network."""

import subprocess

import pytest

from firewalls import ASK, FirewallHost
from host import SCRIPTS, second_bridge
from instance import clean_environment, wait_until
from readme import OPERATING, block, with_test_sts
from real_metadata import HOST_ROLE, LIST
from sts import ENDPOINT

URL = f"http://169.254.169.254{LIST}"
# Plays a rootless container that starts at boot without waiting for a unit of ec2-role, and logs each answer that differs from
# the previous one.
EARLY = f"""[Unit]
Description=Plays a rootless container
[Service]
User=app
ExecStart=/bin/sh -c 'while :; do now=$$(curl -s -m 1 {URL}); [ "$$now" = "$$last" ] || echo "$$now" >>/home/app/answers; last=$$now; done'
[Install]
WantedBy=multi-user.target
"""
# Makes the server's port on loopback reachable for a container on the second bridge. route_localnet makes the host accept packets
# from the bridge to loopback addresses, as with Docker's setting "userland-proxy": false. The flush removes the hook's rules,
# which close the port to bridges.
OPEN_LOOPBACK = f"""{second_bridge()}
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,rw,bind /proc/sys/net
ip -n two route add 127.0.0.1 via 172.18.0.1
echo 1 >/proc/sys/net/ipv4/conf/br-two/route_localnet
nsenter --net=/run/netns/two sh -c 'echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet'
iptables -F
"""
SUDO = """#!/bin/sh
if [ "$1" = -u ]; then uid=$(id -u "$2"); shift 2; set -- setpriv --reuid="$uid" --clear-groups "$@"; fi
exec "$@"
"""


def test_rootless_container_never_sees_the_hosts_role_at_boot(fresh_host):
    host = fresh_host
    host.run("useradd", "--create-home", "app")
    answers = lambda: host.run("cat", "/home/app/answers", check=False).stdout
    host.put(EARLY, "/etc/systemd/system/early.service")
    host.run("systemctl", "enable", "--now", "early")
    wait_until(lambda: HOST_ROLE in answers(), what="the host's role, without ec2-role")
    host.install()
    host.run("sh", "-euc", block("Rootless engines", "sh", 1, OPERATING).replace("EC2_ROLE_BRIDGE=", f"EC2_ROLE_BRIDGE= EC2_ROLE_ENDPOINT_URL={ENDPOINT}"))
    host.run("systemctl", "stop", "early")
    for _ in range(2):
        host.run("rm", "-f", "/home/app/answers")
        host.reboot()
        wait_until(lambda: "exc_web" in answers(), what="the role")
        assert HOST_ROLE not in answers()
    host.put(SUDO, "/usr/local/bin/sudo", "0755")
    assert host.run("sh", "-euc", block("Rootless engines", "sh", 0, OPERATING)).stdout == "ok: app → 127.0.0.1:4567 (exc_web)\nexc_web"
    assert host.run("curl", "-s", URL).stdout == HOST_ROLE
    host.run("sh", "-euc", OPEN_LOOPBACK)
    on_bridge = host.run("nsenter", "--net=/run/netns/two", "curl", "-s", "--max-time", "3", f"http://127.0.0.1:4567{LIST}")
    assert on_bridge.stdout == "ec2-role: this address serves its own subnet only\n"
    host.run("sh", "-euc", block("Rootless engines", "sh", 2, OPERATING))
    assert host.run("setpriv", "--reuid=app", "--clear-groups", "curl", "-s", URL).stdout == HOST_ROLE
    assert host.run("find", "/etc", "-path", "*ec2-role*", "-name", "app.*").stdout == ""
    host.run("ec2-role-guard", "status")


def test_one_users_removal_leaves_another_user_its_role(fresh_host):
    host = fresh_host
    host.run("sh", "-c", "useradd app; useradd bob")
    host.install()
    app = block("Rootless engines", "sh", 1, OPERATING).replace("EC2_ROLE_BRIDGE=", f"EC2_ROLE_BRIDGE= EC2_ROLE_ENDPOINT_URL={ENDPOINT}")
    bob = app.replace("app", "bob").replace(":4567", ":4568").replace("exc_web", "php").replace("add --user bob", "add --user bob --to :4568")
    host.run("sh", "-euc", f"{app}\n{bob}")
    host.run("sh", "-euc", block("Rootless engines", "sh", 2, OPERATING))
    host.run("ec2-role-guard", "status", "--user", "bob")
    host.run("sh", "-euc", app)
    host.run("userdel", "--force", "app")
    host.reboot()
    role = lambda: host.run("setpriv", "--reuid=bob", "--clear-groups", "curl", "-s", "-m", "3", URL, check=False).stdout
    wait_until(lambda: role() == "php", what="the role of the user that is left")
    host.run("ec2-role-guard", "status", "--user", "bob")
    assert "--user app: no such user" in host.journal() and host.show("ec2-role-guard", "ActiveState") == "active"


@pytest.fixture
def docker_host(engine, aws):
    with FirewallHost(engine, "Docker", "none") as host:
        yield host


def test_a_container_on_the_hosts_network_has_the_slices_role(docker_host):
    host = docker_host
    host.put('{"exec-opts": ["native.cgroupdriver=systemd"]}\n', "/etc/docker/daemon.json")
    host.run("systemctl", "restart", "docker")
    image = subprocess.run([SCRIPTS / "release", "--image"], check=True, capture_output=True, env=clean_environment()).stdout
    host.run("docker", "load", input=image, text=False)
    run = ("docker", "run", "--rm", "--network", "host", "busybox", "sh", "-c", ASK)
    in_slice = (*run[:3], "--cgroup-parent", "exc_web.slice", *run[3:])
    assert host.run(*in_slice).stdout == HOST_ROLE
    host.run("sh", "-euc", with_test_sts(block("Containers on the host's network", "sh", 0, OPERATING)))
    wait_until(lambda: host.run(*in_slice).stdout == "exc_web", what="the slice's role")
    # The second container shows that the cgroup stays after the first one has ended.
    assert host.run(*in_slice).stdout == host.run(*in_slice).stdout == "exc_web"
    assert host.run(*run).stdout == host.run("curl", "-s", URL).stdout == HOST_ROLE
    host.reboot()
    host.wait_until_active("docker")
    wait_until(lambda: host.run(*in_slice).stdout == "exc_web", what="the slice's role after the boot")
    assert "/exc_web.slice → 127.0.0.1:4567 (exc_web)" in host.run("ec2-role-hook", "status").stdout
    host.run("sh", "-euc", block("Containers on the host's network", "sh", 2, OPERATING))
    assert host.run(*in_slice).stdout == HOST_ROLE
