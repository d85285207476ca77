"""Tests Quadlet units: the sample of scripts/README.md, and a boot with containers that poll the role's name from their start."""

import re

import pytest

from instance import wait_until
from podman_host import BUSYBOX
from readme import OPERATING, block, command
from real_metadata import HOST_ROLE, LIST
from sts import ENDPOINT

GUARD_AND_HOOK = ("ec2-role-guard", "ec2-role-hook")
ASK = f"""
while :; do
    echo "said: $(printf 'GET {LIST} HTTP/1.0\\r\\n\\r\\n' | nc -w 1 169.254.169.254 80 2>/dev/null | tail -n 1)"
    sleep 0.02
done >>/asked/$1
"""
ASKING = ("--stop-signal", "KILL", "--volume", "/var/asked:/asked", BUSYBOX, "sh", "/asked/ask")


@pytest.fixture
def host(host):
    host.put(ASK, "/var/asked/ask")
    yield host
    host.run("sh", "-c", f"systemctl disable {' '.join(GUARD_AND_HOOK)} podman-restart; systemctl stop ec2-role-hook 'web-*' 'ask-*'; rm -r /var/asked")


def put_sample(host, endpoint=ENDPOINT):
    for name, content in re.findall(r"^# (/etc/containers/systemd/\S+)\n(.*?)(?=^# /etc|\Z)", block("Quadlet", "ini", page=OPERATING), re.M | re.S):
        host.put(re.sub(r"^(Environment=EC2_ROLE_ARN)", rf"Environment=EC2_ROLE_ENDPOINT_URL={endpoint}\n\1", content, flags=re.M), name)
    host.run("systemctl", "daemon-reload")


def put_polling_unit(host, network):
    """Installs a unit of a container on this network. The unit does not name the guard's unit."""
    option = f"Network={network}.network\n" if network == "web" else ""
    host.put(f"[Container]\nImage={BUSYBOX}\n{option}Volume=/var/asked:/asked\nPodmanArgs=--stop-signal=KILL\nExec=sh /asked/ask {network}\n"
             "[Install]\nWantedBy=multi-user.target\n", f"/etc/containers/systemd/ask-{network}.container")
    host.run("systemctl", "daemon-reload")


def answers_for(host, network):
    return set(host.run("cat", f"/var/asked/{network}", check=False).stdout.splitlines())


def test_a_quadlet_container_uses_its_role(host):
    host.run("systemctl", "enable", "--now", *GUARD_AND_HOOK)
    put_sample(host)
    host.run("systemctl", "start", "web-app")
    wait_until(lambda: "exc_web" in host.run("journalctl", "--output=cat", "CONTAINER_NAME=systemd-web-app").stdout, what="its role")
    stop, remove = (command(begin, OPERATING) for begin in ("systemctl stop web-app", "systemctl daemon-reload; podman"))
    host.run("sh", "-euc", f"{stop}; rm /etc/containers/systemd/web*; {remove}")
    left = "podman ps --all --quiet; podman network ls --quiet --filter name=web; ip -o link show type bridge"
    assert host.run("sh", "-c", left).stdout == ""


def test_a_start_of_quadlet_units_does_not_wait_for_aws(host):
    put_sample(host, endpoint="http://10.77.0.1:9")
    host.run("timeout", "10", "systemctl", "start", "web-app")
    assert host.show("web-role", "ActiveState") == "active"


def test_no_podman_container_sees_the_hosts_role_after_a_boot(host):
    put_polling_unit(host, "podman")
    host.run("systemctl", "start", "ask-podman")
    wait_until(lambda: f"said: {HOST_ROLE}" in answers_for(host, "podman"), what="the host's role without the guard")
    host.run("systemctl", "stop", "ask-podman")
    put_sample(host)
    put_polling_unit(host, "web")
    host.create("php")
    host.run("systemctl", "enable", *GUARD_AND_HOOK, "podman-restart")
    host.podman("run", "--detach", "--restart", "always", "--network", "php", *ASKING, "php")
    wait_until(lambda: "said: php" in answers_for(host, "php"), what="the role before the boot")
    host.run("sh", "-c", "systemctl stop 'ask-*'; podman stop --all --time 0; rm /var/asked/[!a]*")
    host.reboot()
    for network, role in (("web", "exc_web"), ("php", "php")):
        wait_until(lambda: f"said: {role}" in answers_for(host, network), what=f"{role} after the boot")
        assert answers_for(host, network) <= {f"said: {role}", "said: "}
    wait_until(lambda: answers_for(host, "podman"), what="a first answer")
    assert answers_for(host, "podman") == {"said: "}
