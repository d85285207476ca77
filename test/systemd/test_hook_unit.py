"""ec2-role-guard.service and ec2-role-hook.service: their order among other units, and the effects of a restart."""

import re

import pytest

from host import SCRIPTS
from instance import wait_until
from real_metadata import HOST_ROLE

STARTS_CONTAINERS = ["docker", "snap.docker.dockerd", "containerd", "podman-restart"]
WRITES_THE_FIREWALL_ANEW = ["firewalld", "ufw", "nftables", "iptables", "ip6tables", "netfilter-persistent", "shorewall",
                            "shorewall6", "ferm", "arno-iptables-firewall"]


def test_guard_unit_precedes_units_that_start_containers(host):
    assert {"sysinit.target", "docker.service"} <= set(host.show("ec2-role-guard", "Before").split())
    assert "sysinit.target" in host.show("ec2-role-guard", "WantedBy").split()
    assert "ec2-role-guard.service" in host.show("docker", "Requires").split()
    for unit in ("ec2-role-hook", "ec2-role@web"):
        assert "ec2-role-guard.service" in host.show(unit, "Wants").split(), unit
    # The guard must not wait for a firewall's unit: Podman, LXC or libvirt could start during this wait, before the guard.
    after = set(host.show("ec2-role-guard", "After").split())
    assert "local-fs.target" in after and not {f"{name}.service" for name in WRITES_THE_FIREWALL_ANEW} & after


def test_the_hook_comes_after_the_firewall_and_before_docker(host):
    before, after = (set(units.split()) for units in host.show("ec2-role-hook", "Before", "After"))
    assert {f"{name}.service" for name in STARTS_CONTAINERS} <= before
    assert {f"{name}.service" for name in WRITES_THE_FIREWALL_ANEW} | {"ec2-role-guard.service"} <= after


def test_a_hook_that_hangs_does_not_keep_docker_from_starting(host):
    """Sets TimeoutStartSec to as many seconds as the unit has minutes, so that the test is short."""
    drop_in = "/run/systemd/system/ec2-role-hook.service.d/hangs.conf"
    minutes = int(host.show("ec2-role-hook", "TimeoutStartUSec").removesuffix("min"))
    # The hook must say what it waits for, before systemd ends it.
    of_hook, of_guard = (dict(re.findall(r"^(\w+)_SECONDS=(\d+)", (SCRIPTS / f"ec2-role-{name}").read_text(), re.M)) for name in ("hook", "guard"))
    assert int(of_hook["LOCK"]) + int(of_guard["LOCK"]) + 3 * int(of_hook["IPTABLES"]) + int(of_hook["FIREWALLD"]) < 60 * minutes
    try:
        host.put(f"[Service]\nExecStart=\nExecStart=/usr/bin/sleep infinity\nTimeoutStartSec={minutes}\n", drop_in)
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "stop", "docker", "ec2-role-hook")
        assert host.run("systemctl", "start", "ec2-role-hook", "docker", check=False).returncode != 0
        host.wait_until_active("docker")
    finally:
        host.run("rm", drop_in)
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "restart", "ec2-role-hook")


@pytest.mark.parametrize("unit, verb, refused", [
    ("ec2-role-guard", "restart", True), ("ec2-role-guard", "stop", True), ("ec2-role-guard", "reload", False),
    ("ec2-role-hook", "restart", False), ("ec2-role-hook", "stop", False),
])
def test_systemctl_on_guard_or_hook_does_not_stop_docker(host, unit, verb, refused):
    docker = host.show("docker", "MainPID")
    try:
        assert (host.run("systemctl", verb, unit, check=False).returncode != 0) == refused
        assert host.show("docker", "ActiveState", "MainPID") == ["active", docker]
        assert "on: only this host" in host.run("ec2-role-guard", "status").stderr
    finally:
        host.run("systemctl", "start", "ec2-role-hook")


def test_hook_unit_adds_all_hooks_although_guard_is_bypassed(host):
    drop_in = "/run/systemd/system/ec2-role-hook.service.d/second.conf"
    rule = ("pref", "0", "iif", "docker0", "lookup", "main")
    host.put("[Service]\nExecStart=/usr/local/sbin/ec2-role-hook add --bridge br-second --missing-ok\n", drop_in)
    host.run("systemctl", "daemon-reload")
    # Add the rule while the guard is off. The guard's rules come behind it when the guard is on again, because the kernel puts a
    # new rule behind all rules of the same preference.
    host.run("ec2-role-guard", "off")
    host.run("ip", "rule", "add", *rule)
    try:
        host.run("systemctl", "restart", "ec2-role-hook", check=False)
        assert "-i br-second " in host.run("iptables-save").stdout
        errors = host.run("journalctl", "--no-pager", "--output=cat", "--priority=err", "--unit=ec2-role-hook").stdout
        assert "er-+: the hook is in place; ec2-role-guard: bypassed: " in errors
    finally:
        host.run("ip", "rule", "delete", *rule)
        host.run("rm", drop_in)
        host.run("systemctl", "daemon-reload")
        host.run("ec2-role-hook", "remove", "--bridge", "br-second")
        host.run("systemctl", "restart", "ec2-role-hook")


@pytest.mark.parametrize("script", ["ec2-role-guard", "ec2-role-hook"])
def test_error_lines_have_a_priority_only_in_the_journal(host, script):
    assert host.run("systemd-run", "--wait", "--quiet", script, "frob", check=False).returncode == 2
    errors = host.run("journalctl", "--no-pager", "--output=cat", "--priority=err").stdout
    assert f"{script}: frob: " in errors.splitlines()[-1]
    host.run("systemd-run", "--wait", "--quiet", "sh", "-c", f"{script} frob 2>/run/errors", check=False)
    assert host.run("cat", "/run/errors").stdout.startswith(f"{script}: frob: ")


# A unit that does not name the guard's unit, like a Quadlet unit of root's Podman. It starts after the guard only because the
# guard precedes sysinit.target.
EARLY = """[Unit]
Description=Plays a container that is started at boot
[Service]
Type=notify
NotifyAccess=all
ExecStart=/usr/bin/python3 /usr/local/sbin/stand-in-docker
[Install]
WantedBy=multi-user.target
"""


def test_container_of_an_early_unit_gets_no_host_role(fresh_host):
    host = fresh_host
    host.install_docker()
    host.put(EARLY, "/etc/systemd/system/early.service")
    host.install()
    # Stands in for a firewall whose start takes long, such as firewalld.
    host.put("[Unit]\nBefore=network-pre.target\n[Service]\nType=oneshot\nExecStart=sleep 5\n[Install]\nWantedBy=multi-user.target\n",
             "/etc/systemd/system/firewalld.service")
    host.run("systemctl", "enable", "early", "firewalld")
    host.reboot()
    answers = wait_until(lambda: host.run("cat", "/var/log/answers", check=False).stdout, what="the container's first answer")
    assert HOST_ROLE not in answers


# fail2ban's unit on a host that bans in Docker's chain DOCKER-USER, so that fail2ban must start after Docker.
FAIL2BAN = """[Unit]
After=network.target iptables.service firewalld.service ip6tables.service ipset.service nftables.service docker.service
[Service]
ExecStart=sleep infinity
[Install]
WantedBy=multi-user.target
"""


def test_boot_starts_all_units_if_fail2ban_follows_docker(fresh_host):
    """systemd breaks an ordering cycle by not starting one of its units, such as Docker."""
    host = fresh_host
    host.install_docker()
    host.put(FAIL2BAN, "/etc/systemd/system/fail2ban.service")
    host.install()
    host.run("systemctl", "enable", "docker", "fail2ban")
    host.reboot()
    for unit in ("docker", "fail2ban", "ec2-role-hook"):
        assert host.show(unit, "ActiveState") == "active", unit


def test_docker_starts_without_iptables_behind_the_guard(fresh_host):
    host = fresh_host
    host.install_docker()
    host.put("[Service]\nExecStart=\nExecStart=/usr/local/sbin/ec2-role-hook add --bridge er-+ --missing-ok --iptables iptables-none\n",
             "/etc/systemd/system/ec2-role-hook.service.d/no-iptables.conf")
    host.unpack_release()
    host.run("sh", "-c", "cd /tmp/release && install -m 755 ec2-role-guard ec2-role-hook /usr/local/sbin/ && "
             "install -m 644 ec2-role-guard.service ec2-role-hook.service /etc/systemd/system/ && systemctl daemon-reload")
    host.run("systemctl", "enable", "--now", "ec2-role-guard")
    host.run("systemctl", "enable", "--now", "ec2-role-hook", check=False)
    host.run("systemctl", "start", "docker")
    assert host.show("ec2-role-hook", "ActiveState") == "failed"
    assert host.show("docker", "ActiveState") == "active"
    answers = wait_until(lambda: host.run("cat", "/var/log/answers", check=False).stdout, what="the container's first answer")
    assert HOST_ROLE not in answers
