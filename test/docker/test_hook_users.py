"""Tests `ec2-role-hook add --user` in a network namespace that plays the host: the role that processes with a user's uids get."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from accounts import OTHERS, SUBUIDS, UID, add_accounts
from asking import role_of_uid, role_or_none, role_seen_by
from instance import METADATA, METADATA_IPV6, firewall, routing
from real_metadata import HOST_ROLE
from stand_in import StandIn

ADDRESSES = (METADATA, METADATA_IPV6)
FLUSHES = {
    "nat": "iptables -t nat -F; ip6tables -t nat -F",
    "nft": "nft flush ruleset",
    "iptables": "for t in nat filter raw mangle; do for i in iptables ip6tables iptables-legacy ip6tables-legacy; do $i -t $t -F; done; done",
}


@pytest.fixture
def host(both_families, tmp_path):
    """A host with a server on both loopback addresses, as with `--listen [::]:4567`, and another one at port 4568."""
    both_families.subuid = add_accounts(both_families, tmp_path)
    servers = [StandIn(both_families.ec2, address, port, name) for address, port, name in (
        ("127.0.0.1", 4567, "app"), ("::1", 4567, "app"), ("127.0.0.1", 4568, "other"), ("::1", 4568, "other"))]
    yield both_families
    for server in servers:
        server.close()


def seen_by(host, *uids):
    """Returns the set of roles that processes with these uids see in both IP families. Sends all requests concurrently, because
    a refusal can be a timeout."""
    with ThreadPoolExecutor() as pool:
        return set(pool.map(lambda asked: role_of_uid(host.ec2, asked[0], address=asked[1]), itertools.product(uids, ADDRESSES)))


def host_is_untouched(host):
    return seen_by(host, 0) == {HOST_ROLE}


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_add_redirects_the_user_and_its_subuids_only(host, program):
    variant = ("--iptables", program)
    assert seen_by(host, UID, *SUBUIDS) == {HOST_ROLE}
    added = host.hook("add", "--user", "app", *variant)
    assert added.stderr.splitlines()[-1] == "ec2-role-hook: app: 169.254.169.254 is ec2-role at 127.0.0.1:4567; the guard is on (ec2-role-guard off lifts it)"
    assert seen_by(host, UID, *SUBUIDS) == {"app"}
    assert seen_by(host, *OTHERS) == {HOST_ROLE} and host_is_untouched(host)
    assert host.hook("status", *variant).stdout == host.hook("status", "--user", "app", *variant).stdout == "ok: app → 127.0.0.1:4567\n"
    with_hook = firewall(host, program)
    assert "in place already" in host.hook("add", "--user", "61000", *variant).stderr
    assert firewall(host, program) == with_hook
    host.hook("remove", "--user", "app", *variant)
    assert "-A" not in firewall(host, program) and "EC2-ROLE" not in firewall(host, program)
    # The guard is still on.
    assert seen_by(host, UID, *SUBUIDS) == {None} and host_is_untouched(host)
    host.guard("off")
    assert seen_by(host, UID, *SUBUIDS) == {HOST_ROLE}


@pytest.mark.parametrize("flush", FLUSHES)
def test_no_flush_gives_the_user_the_hosts_role(host, flush):
    host.hook("add", "--user", "app")
    host.ec2.run("sh", "-euc", FLUSHES[flush])
    assert seen_by(host, UID, *SUBUIDS) == {None} and host_is_untouched(host)
    assert host.hook("status", "--user", "app", check=False).returncode == 1
    host.hook("add", "--user", "app")
    assert seen_by(host, UID, *SUBUIDS) == {"app"}
    assert host.hook("status").stdout == "ok: app → 127.0.0.1:4567\n"


def test_each_user_has_its_own_role_beside_a_bridge(host):
    bridges = StandIn(host.ec2, "172.17.0.1", 4569, "docker0")
    try:
        host.hook("add", "--user", "app")
        host.hook("add", "--user", "other", "--to", ":4568")
        host.hook("add", "--to", ":4569")
        assert seen_by(host, UID, *SUBUIDS) == {"app"} and seen_by(host, 61001, 300000) == {"other"}
        assert role_seen_by(host.box) == "docker0" and host_is_untouched(host)
        assert sorted(host.hook("status").stdout.splitlines()) == [
            "app → 127.0.0.1:4567", "docker0 → 172.17.0.1:4569", "ok: all hooks are in place, and the guard is on", "other → 127.0.0.1:4568"]
        # `add` for one bridge or user also restores the rules of the others.
        whole = firewall(host)
        host.ec2.run("iptables", "-t", "nat", "-F")
        host.hook("add", "--to", ":4569")
        assert firewall(host) == whole
        host.hook("remove", "--user", "other")
        assert seen_by(host, UID) == {"app"} and seen_by(host, 61001, 300000) == {None}
        host.hook("remove", "--all")
        assert seen_by(host, UID, 61001) == {None} and role_or_none(host.box) is None
        assert "EC2-ROLE" not in firewall(host)
    finally:
        bridges.close()


def test_without_a_server_the_user_is_refused_at_once(host):
    host.hook("add", "--user", "app", "--to", ":4570")
    for _ in range(10):
        asked = host.ec2.run("setpriv", f"--reuid={UID}", "--clear-groups", "curl", "--silent", "--max-time", "1", "169.254.169.254", check=False)
        assert asked.returncode == 7  # refused; 28 is a time-out
    assert "app: nobody listens at 127.0.0.1:4570" in host.hook("status", check=False).stdout


def test_add_redirects_a_user_to_an_address_of_the_host(host):
    server = StandIn(host.ec2, "10.77.0.2", 4571, "elsewhere")
    try:
        host.hook("add", "--user", "app", "--to", "10.77.0.2:4571")
        assert role_of_uid(host.ec2, UID) == role_of_uid(host.ec2, SUBUIDS[0]) == "elsewhere"
        assert host.hook("status").stdout == "ok: app → 10.77.0.2:4571\n"
        host.hook("add", "--user", "app", "--to", "127.0.0.1:4568")
        assert role_of_uid(host.ec2, UID) == "other"
    finally:
        server.close()


def test_hook_serves_a_user_behind_a_closed_firewall(host):
    for chain in ("INPUT", "OUTPUT"):
        host.ec2.run("iptables", "-P", chain, "DROP")
    host.ec2.run("iptables", "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
    host.ec2.run("iptables", "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT")
    host.hook("add", "--user", "app")
    assert role_of_uid(host.ec2, UID) == "app"


@pytest.mark.parametrize("rule", ["-P INPUT DROP", "-A INPUT -p tcp --dport 4567 -j REJECT"])
@pytest.mark.parametrize("to", [":4567", "127.0.0.1:4567"])
def test_a_closed_port_is_open_to_the_users_requests(host, rule, to):
    """In the chain INPUT, these requests come from lo. Without the hook's rule, this firewall would let in only replies."""
    for program in ("iptables", "ip6tables"):
        host.ec2.run(program, "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT")
        host.ec2.run(program, *rule.split())
    host.hook("add", "--user", "app", "--to", to)
    assert seen_by(host, UID, *SUBUIDS) == {"app"} and host_is_untouched(host)
    assert host.hook("status").stdout == "ok: app → 127.0.0.1:4567\n"
    assert role_or_none(host.ec2, address="127.0.0.1", port=4567) is None


def test_changed_subuids_are_reported_and_add_repairs_them(host):
    host.hook("add", "--user", "app")
    host.subuid.write_text("app:500000:65536\n")
    status = host.hook("status", check=False)
    assert status.returncode == 4 and "uid 500000 (IPv4)" in status.stdout
    host.hook("add", "--user", "app")
    assert seen_by(host, UID, 500000) == {"app"}
    assert host.hook("status").stdout == "ok: app → 127.0.0.1:4567\n"
    # `remove --user` leaves the rules of the old range, because /etc/subuid no longer lists this range. `remove --all` removes
    # them.
    assert seen_by(host, 200000) == {"app"}
    host.hook("remove", "--user", "app")
    assert "--uid-owner=200000-265535 :4567" in host.hook("status").stdout
    host.hook("remove", "--all")
    assert seen_by(host, 200000) == {None}


def test_backslash_in_a_domain_users_name_is_kept(host):
    added = host.hook("add", "--user", "CORP\\nina")
    assert added.stderr.splitlines()[-1].startswith("ec2-role-hook: CORP\\nina: 169.254.169.254 is ec2-role at 127.0.0.1:4567")
    assert host.hook("status").stdout == "ok: CORP\\nina → 127.0.0.1:4567\n"
    assert seen_by(host, 61003, 500000) == {"app"}
    assert host.hook("add", "--user", "CORP\\none", check=False).stderr == "ec2-role-guard: --user CORP\\none: no such user\n"


def test_a_user_with_no_subuids_is_served(host):
    host.subuid.write_text("")
    host.hook("add", "--user", "app")
    assert seen_by(host, UID) == {"app"} and seen_by(host, SUBUIDS[0]) == {HOST_ROLE}
    assert host.hook("status").stdout == "ok: app → 127.0.0.1:4567\n"
    # A range of one subuid, 61001, must not be taken for a hook of a user with that uid.
    host.subuid.write_text("app:61001:1\n")
    host.hook("add", "--user", "app")
    assert host.hook("status").stdout == "ok: app → 127.0.0.1:4567\n"


def test_dry_run_prints_the_commands_for_a_user(host):
    before = firewall(host), routing(host)
    printed = host.hook("add", "--user", "app", "--dry-run").stdout
    assert (firewall(host), routing(host)) == before
    host.run("sh", "-euc", printed)
    by_hand = firewall(host), routing(host)
    host.hook("remove", "--all")
    host.hook("add", "--user", "app")
    assert (firewall(host), routing(host)) == by_hand


@pytest.mark.parametrize("arguments, complaint", [
    (("add", "--user", "nobody-such"), "--user nobody-such: no such user"),
    (("add", "--user", "root"), "--user root: root is the host itself"),
    (("remove", "--user", "0"), "--user 0: root is the host itself"),
    (("status", "--user", ""), "--user : no such user"),
    (("add", "--user", "app", "--bridge", "docker0"), "one of --bridge, --user and --cgroup is enough"),
    (("add", "--user", "app", "--to", "0.0.0.0:4567"), "containers cannot be sent there"),
    (("remove", "--all", "--user", "app"), "takes every hook"),
])
def test_invalid_arguments_are_one_line_and_change_nothing(host, arguments, complaint):
    before = firewall(host), routing(host)
    said = host.hook(*arguments, check=False)
    assert said.returncode == 2 and complaint in said.stderr and said.stderr.count("\n") == 1
    assert (firewall(host), routing(host)) == before
