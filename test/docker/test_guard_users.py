"""Tests `ec2-role-guard on --user` without iptables and ec2-role: requests of processes with the user's uids are refused."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from accounts import OTHERS, SUBUIDS, UID, add_accounts
from asking import role_of_uid, role_seen_by
from instance import first_in_path, routing
from real_metadata import HOST_ROLE
from test_guard import IPV6, ON

REFUSED = "61000-61000 200000-265535 400000-400999"
WITHOUT = ON.replace(";", f", without its uids {REFUSED};")


@pytest.fixture
def host(both_families, tmp_path):
    both_families.subuid = add_accounts(both_families, tmp_path)
    return both_families


def refused(host, *uids, **where):
    """Whether the requests of all uids are refused on port 80, which ec2-role-hook redirects, and on port 443, which it does not.
    Sends all requests concurrently, because a refusal can be a timeout."""
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(role_of_uid, host.ec2, uid, port=port, **where) for uid in uids for port in (80, 443)]
        return {each.result() for each in asked} == {None}


def test_guard_refuses_the_users_uids_only(host):
    for port in (80, 443):
        assert role_of_uid(host.ec2, UID, port=port) == role_of_uid(host.ec2, SUBUIDS[0], port=port, **IPV6) == HOST_ROLE
    assert host.guard("on", "--user", "app").stderr == WITHOUT
    assert refused(host, UID, *SUBUIDS) and refused(host, UID, *SUBUIDS, **IPV6)
    for uid in OTHERS:
        assert role_of_uid(host.ec2, uid) == role_of_uid(host.ec2, uid, **IPV6) == HOST_ROLE, uid
    assert role_seen_by(host.ec2) == HOST_ROLE
    assert host.guard("status", "--user", "app").stderr == WITHOUT


def test_guard_works_when_its_routing_table_has_a_name(host, tmp_path):
    names = tmp_path / "iproute2"
    names.mkdir()
    names.joinpath("rt_tables").write_text("4567 clients\n")
    host.within = ("unshare", "--mount", "sh", "-euc", f'mkdir -p /etc/iproute2; mount --bind {names} /etc/iproute2; exec "$@"', "sh", *host.within)
    assert host.guard("on", "--user", "app").stderr == host.guard("status", "--user", "app").stderr == WITHOUT
    assert host.run("ip", "rule").stdout.count("lookup clients") == REFUSED.count("-")


def test_on_for_a_second_user_keeps_the_first(host):
    host.guard("on", "--user", "app")
    host.guard("on", "--user", "other")
    host.guard("on")
    once = routing(host)
    assert refused(host, UID, 61001, 300000)
    host.guard("on", "--user", "other", "--user", "app")
    assert routing(host) == once


def test_users_added_concurrently_are_all_refused(host):
    with ThreadPoolExecutor(9) as operators:
        added = list(operators.map(lambda user: host.guard("on", *user), [("--user", "app"), ("--user", "other"), ()] * 3))
    assert {each.stderr.split(";")[0].split(",")[0] for each in added} == {"ec2-role-guard: on: only this host reaches the metadata service"}
    assert refused(host, UID, 61001, *SUBUIDS, 300000) and role_seen_by(host.ec2) == HOST_ROLE


@pytest.mark.parametrize("entry", ["app:100000:4294967295", "app:4294967290:100", "app:99999999999999999999:5", "app:100000:65536x", "app:-5:10"])
def test_invalid_subuid_entry_is_ignored(host, entry):
    host.subuid.write_text(f"{entry}\napp:200000:65536\n")
    assert host.guard("on", "--user", "app").stderr == ON.replace(";", ", without its uids 61000-61000 200000-265535;")
    assert role_seen_by(host.ec2) == HOST_ROLE


def test_off_restores_the_routing_and_the_users_access(host):
    before = routing(host)
    host.guard("on", "--user", "app", "--user", "other")
    host.guard("off")
    assert routing(host) == before
    assert "169.254" not in host.run("ip", "route", "show", "table", "all").stdout.replace("169.254.169.254 dev eth0 scope link", "")
    assert role_of_uid(host.ec2, UID) == role_of_uid(host.ec2, UID, **IPV6) == HOST_ROLE


@pytest.mark.parametrize("family, where", [("-4", {}), ("-6", IPV6)])
@pytest.mark.parametrize("lost", ["rule flush", "route flush table 4567", "rule add pref 0 not fwmark 51820 lookup 4567", "link set lo down"])
def test_users_stay_refused_after_changes_by_other_programs(host, lost, family, where):
    host.guard("on", "--user", "app")
    host.run("ip", family, *lost.split())
    assert refused(host, UID, SUBUIDS[0], **where)


@pytest.mark.parametrize("family, where, source", [("-4", {}, "10.77.0.9/24"), ("-6", IPV6, "fd77::9/64")])
def test_older_rule_of_preference_1_does_not_bypass_the_guard(host, family, where, source):
    """A host with two interfaces has a rule for packets from its second address. A user can send from that address, so the
    guard's rules must precede this rule."""
    address = source.split("/")[0]
    host.guard("on")
    host.run("ip", "address", "add", source, "dev", "eth0", *(["nodad"] if family == "-6" else []))
    host.run("ip", family, "route", "add", "default", "via", "10.77.0.1" if family == "-4" else "fd77::1", "table", "10001")
    host.run("ip", family, "rule", "add", "pref", "1", "from", address, "lookup", "10001")
    assert role_of_uid(host.ec2, UID, source=address, **where) == HOST_ROLE
    host.guard("on", "--user", "app")
    assert refused(host, UID, SUBUIDS[0], source=address, **where)
    assert role_of_uid(host.ec2, 61001, source=address, **where) == HOST_ROLE


@pytest.mark.parametrize("rule", [
    "uidrange 250000-250000 lookup main",
    "to 169.254.169.254 uidrange 250000-250000 ipproto tcp dport 80 lookup main",  # like the guard's rule, but with another table
])
def test_rule_that_bypasses_the_guard_for_a_user_is_reported(host, rule):
    host.run("ip", "rule", "add", "pref", "0", *rule.split())
    said = host.guard("on", "--user", "app", check=False)
    assert said.returncode == 1 and f"0: from all {rule}; delete it" in said.stderr


@pytest.mark.parametrize("missing", ["pref 0 iif lo goto 1", "pref 0 uidrange 61000-61000 unreachable", "pref 0 uidrange 61000-61000 ipproto tcp dport 80 lookup 4567"])
def test_on_repairs_a_missing_rule_of_a_user(host, missing):
    host.guard("on", "--user", "app")
    before = routing(host)
    host.run("ip", "rule", "delete", *missing.split(), "to", "169.254.169.254")
    host.guard("on", "--user", "app")
    assert sorted(routing(host).splitlines()) == sorted(before.splitlines()) and refused(host, UID, *SUBUIDS)
    assert host.guard("status", "--user", "app").stderr == WITHOUT and role_seen_by(host.ec2) == HOST_ROLE


def test_status_reports_a_user_that_is_not_refused(host):
    host.guard("on")
    status = host.guard("status", "--user", "app", check=False)
    assert status.returncode == 1 and "uid 61000 (IPv4) uid 200000 (IPv4)" in status.stderr


@pytest.mark.parametrize("failing", ["id -un", "cat", "awk"])
def test_on_fails_if_the_uid_ranges_cannot_be_read(host, tmp_path, failing):
    program, *arguments = failing.split()
    path = first_in_path(tmp_path, program, f'case "$*" in "{" ".join(arguments)}"*) exit 1 ;; esac\nexec {shutil.which(program)} "$@"')
    host.environment = {**host.environment, "PATH": path}
    assert host.guard("on", "--user", "app", check=False).returncode == 1


def test_uids_lists_the_users_own_uid_first(host):
    assert host.guard("uids", "app").stdout == host.guard("uids", "61000").stdout == REFUSED.replace(" ", "\n") + "\n"
    # An /etc without the file subuid. On Debian, /usr/bin/awk is a link to /etc/alternatives.
    without = """users=$(cat /etc/passwd) awk=$(realpath /etc/alternatives/awk)
mount -t tmpfs tmpfs /etc
mkdir /etc/alternatives
ln -s "$awk" /etc/alternatives/awk
echo "$users" >/etc/passwd
exec "$@\""""
    host.within = ("unshare", "--mount", "sh", "-euc", without, "sh")
    assert host.guard("uids", "65534").stdout == "65534-65534\n"


@pytest.mark.parametrize("arguments, complaint", [
    (("on", "--user", "nobody-such"), "--user nobody-such: no such user"),
    (("on", "--user", "61002"), "--user 61002: no such user"),
    (("on", "--user", "--help"), "--user --help: no such user"),
    (("on", "--user", "app", "--user", "root"), "--user root: root is the host itself"),
    (("status", "--user", "0"), "--user 0: root is the host itself"),
    (("uids", "root"), "root is the host itself"),
    (("on", "--user"), "say on, off, status or uids"),
    (("off", "--user", "app"), "say on, off, status or uids"),
    (("uids",), "say on, off, status or uids"),
])
def test_invalid_arguments_change_nothing(host, arguments, complaint):
    before = routing(host)
    said = host.guard(*arguments, check=False)
    assert said.returncode == 2 and complaint in said.stderr and said.stderr.count("\n") == 1
    assert routing(host) == before


def test_off_deletes_the_rules_of_older_versions(host):
    for rule in ("pref 11 iif lo goto 13", "pref 12 prohibit", "pref 13 nop", "pref 14 nop", "pref 15 iif docker0 nop", "pref 16 from 10.0.0.1 iif docker0 nop"):
        host.run("ip", "rule", "add", "to", "169.254.169.254", "protocol", "kernel", *rule.split())
    host.guard("on")
    host.guard("off")
    assert "169.254" not in routing(host)
    assert role_seen_by(host.box) == HOST_ROLE
