"""Tests the hook and the guard on Podman's default network. The test of a flush runs with both firewall drivers of netavark."""

import concurrent.futures

import pytest

from instance import wait_until
from podman_host import RESET
from readme import OPERATING, block, command, with_test_sts
from real_metadata import HOST_ROLE

VERDICT = "ok: podman0 → 10.88.0.1:4567 (exc_web)\n"


@pytest.fixture
def firewall(host, request):
    """The firewall driver of netavark: nftables or iptables."""
    host.put(f'[network]\nfirewall_driver = "{request.param}"\n', "/etc/containers/containers.conf.d/firewall.conf")
    return request.param


both_firewalls = pytest.mark.parametrize("firewall, listing", [
    ("nftables", ("nft", "list", "tables")), ("iptables", ("iptables", "--list-rules"))], indirect=["firewall"], ids=["nftables", "iptables"])


@pytest.fixture
def box(host):
    return host.box()


@pytest.fixture
def served(host, box):
    """Runs the quick start of scripts/README.md, with the test's STS."""
    out = host.run("sh", "-euc", with_test_sts(block("Podman", "sh", page=OPERATING))).stdout
    assert out.endswith("\n\nexc_web")
    return box


def test_guard_refuses_podman_containers_without_a_hook(host, box):
    assert host.role_seen_by(box) == HOST_ROLE
    host.run("ec2-role-guard", "on")
    assert host.role_seen_by(box) is None
    assert host.role_seen_by(host.box()) is None


def test_sighup_refresh_keeps_podmans_restart_policy(host, served):
    pid = lambda: host.run("podman", "inspect", "--format", "{{.State.Pid}}", "ec2-role").stdout.strip()
    before = pid()
    host.run("sh", "-euc", command("kill -HUP", OPERATING))
    wait_until(lambda: "SIGHUP: fetching now" in host.run("podman", "logs", "ec2-role").stderr, what="the refresh")
    host.run("kill", "-9", before)
    wait_until(lambda: pid() not in (before, "0"), seconds=20, what="the restart after a crash")
    host.wait_for_role(served, "exc_web")


@both_firewalls
def test_podman_container_is_served_and_refused_after_a_flush(host, firewall, listing, served):
    assert "netavark" in host.run(*listing).stdout.lower()
    assert host.run("ec2-role-hook", "status").stdout == VERDICT
    writes_rules_anew = "podman network reload --all; podman run --rm busybox id; podman restart ec2-role"
    with concurrent.futures.ThreadPoolExecutor(1) as operators:
        writing = operators.submit(host.run, "sh", "-euc", writes_rules_anew)
        seen = set()
        while not writing.done():
            # The restart can kill the server in the middle of a request. curl then reports a reset, which counts as no role.
            seen.add(host.role_seen_by(served, RESET))
        writing.result()
    assert seen <= {"exc_web", None}
    host.wait_for_role(served, "exc_web")
    assert host.run("ec2-role-hook", "status").stdout == VERDICT
    host.run("nft", "flush", "ruleset")
    assert host.role_seen_by(served) is None
    host.podman("network", "reload", "--all")
    assert host.role_seen_by(served) is None
    host.run("ec2-role-hook", "add", "--bridge", "podman0")
    assert host.role_seen_by(served) == "exc_web"
    assert host.run("ec2-role-hook", "status").stdout == VERDICT


def test_the_unit_serves_podmans_first_container(host):
    host.configure("web", "exc_web", EC2_ROLE_BRIDGE="podman0", EC2_ROLE_SAME_NETWORK="true")
    host.put("[Socket]\nListenStream=\nListenStream=10.88.0.1:4567\n", "/etc/systemd/system/ec2-role@web.socket.d/podman.conf")
    try:
        host.run("sh", "-euc", "systemctl daemon-reload; systemctl start ec2-role@web.socket")
        host.wait_until_active("ec2-role@web")
        assert host.role_seen_by(host.box()) == "exc_web"
    finally:
        host.run("sh", "-c", "systemctl stop ec2-role@web.socket ec2-role@web ec2-role-hook; rm -r /etc/ec2-role /etc/systemd/system/*.d")


def test_hook_serves_after_podman0_is_removed_and_recreated(host, served):
    host.podman("rm", "--force", served)
    assert host.run("ip", "link", "show", "podman0", check=False).returncode != 0
    assert host.role_seen_by(host.box()) == "exc_web"
