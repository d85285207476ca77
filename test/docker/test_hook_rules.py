"""The hook's rules, packet by packet, between bridges and namespaces made by hand. No Docker and no ec2-role."""

import concurrent.futures
import contextlib
import http.client
import os
import subprocess

import pytest

from asking import assert_refused, role_or_none, role_seen_by
from instance import HOOK, INSTANCE_ADDRESS, METADATA, firewall, get, open_connection, routing, wait_until
from real_metadata import HOST_ROLE, LIST
from stand_in import StandIn, named


def test_without_a_hook_a_container_sees_the_hosts_role(host):
    assert role_seen_by(host.box) == HOST_ROLE


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_add_sends_the_container_to_ec2_role_and_leaves_the_host_its_own(host, server, program):
    before = firewall(host, program), routing(host)
    # Reading the other variant's tables makes them.
    host.hook("add", "--iptables", program)
    assert role_seen_by(host.box) == "stand-in"
    assert role_seen_by(host.ec2) == HOST_ROLE
    host.hook("status", "--iptables", program)
    with_hook = firewall(host, program)
    host.hook("add", "--iptables", program)
    assert firewall(host, program) == with_hook
    host.hook("remove", "--iptables", program)
    empty_tables = [line for line in firewall(host, program).splitlines() if line.startswith("-A")]
    assert empty_tables == [line for line in before[0].splitlines() if line.startswith("-A")]
    assert routing(host) == before[1]
    assert role_seen_by(host.box) == HOST_ROLE


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("table", ["nat", "filter", "mangle"])
def test_a_flushed_table_never_shows_the_hosts_role_and_status_says_what_is_missing(host, server, program, table):
    host.hook("add", "--iptables", program)
    host.ec2.run(program, "-t", table, "-F")
    if table == "nat":
        assert_refused(host.box)
    else:
        assert role_seen_by(host.box) == "stand-in"
    status = host.hook("status", "--iptables", program, check=False)
    assert status.returncode == (0 if table == "mangle" else 1)
    missing = [line for line in status.stdout.splitlines() if line.lstrip().startswith("MISSING")]
    assert all(f" -t {table} " in line for line in missing) and len(missing) == {"nat": 3, "filter": 3, "mangle": 0}[table]
    host.hook("add", "--iptables", program)
    host.hook("status", "--iptables", program)
    assert role_seen_by(host.box) == "stand-in"


def test_a_firewall_flushed_to_the_last_rule_never_shows_the_hosts_role(host, server):
    host.hook("add")
    for table in ("nat", "filter", "mangle", "raw"):
        host.ec2.run("iptables", "-t", table, "-F")
        host.ec2.run("iptables", "-t", table, "-X")
        host.ec2.run("ip6tables", "-t", table, "-F")
    assert_refused(host.box)
    status = host.hook("status", check=False)
    assert status.returncode == 1 and "flushed" in status.stdout


def test_without_a_server_the_container_is_refused(host):
    host.hook("add")
    assert_refused(host.box)


def test_a_connection_opened_before_add_never_shows_the_hosts_role_again(host, server):
    with host.box:
        connection = http.client.HTTPConnection(METADATA, timeout=3)
        connection.request("GET", LIST)
    assert connection.getresponse().read().decode() == HOST_ROLE
    host.hook("add")
    with pytest.raises(OSError):
        connection.sock.sendall(f"GET {LIST} HTTP/1.1\r\nHost: {METADATA}\r\n\r\n".encode())
        connection.sock.recv(1)
    connection.close()
    assert role_seen_by(host.box) == "stand-in"


def test_the_guard_alone_refuses_every_port_and_every_bridge_also_one_made_later(host):
    host.hook("guard", "on")
    assert_refused(host.box)
    assert_refused(host.box, port=443)
    host.bridge("br-later", "172.31.0.1/24")
    assert_refused(host.container("br-later", "172.31.0.2/24", "172.31.0.1"))
    assert role_seen_by(host.ec2) == HOST_ROLE
    host.hook("guard", "off")
    assert role_seen_by(host.box) == HOST_ROLE


def test_the_hosts_own_requests_are_routed_by_its_own_rules_and_pass_a_strict_reverse_path_filter(host):
    """As on an instance with two interfaces: a table for what is sent from the second address."""
    host.ec2.run("ip", "address", "add", "10.77.0.9/24", "dev", "eth0")
    host.ec2.run("ip", "route", "delete", METADATA)
    host.ec2.run("ip", "route", "delete", "default")
    host.ec2.run("ip", "route", "add", "default", "via", "10.77.0.1", "table", "10001")
    host.ec2.run("ip", "rule", "add", "pref", "10001", "from", "10.77.0.9", "lookup", "10001")
    host.ec2.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.eth0.rp_filter=1")
    second = {"source": ("10.77.0.9", 0)}
    assert role_or_none(host.ec2) is None
    assert role_seen_by(host.ec2, **second) == HOST_ROLE
    host.hook("add")
    assert role_seen_by(host.ec2, **second) == HOST_ROLE
    assert_refused(host.box)


def test_the_guard_refuses_at_once_also_the_hundredth_time_and_behind_a_closed_firewall(host):
    host.ec2.run("iptables", "-P", "INPUT", "DROP")
    host.hook("guard", "on")
    for _ in range(100):
        assert_refused(host.box)
    host.hook("status")
    host.hook("guard", "off")
    assert "ec2-role-hook" not in firewall(host)


def test_the_guard_is_on_also_without_iptables_and_says_what_is_missing(host):
    on = host.hook("guard", "on", "--iptables", "iptables-none", check=False)
    assert on.returncode == 3 and "iptables-none: not found" in on.stderr and "the guard is on" in on.stderr
    assert_refused(host.box)


def test_the_guard_holds_over_ipv6_too(host):
    host.ec2.run("ip", "-6", "address", "add", "fd17::1/64", "dev", "docker0", "nodad")
    host.box.run("ip", "-6", "address", "add", "fd17::2/64", "dev", "eth0", "nodad")
    host.box.run("ip", "-6", "route", "add", "default", "via", "fd17::1")
    host.aws.run("ip", "-6", "route", "add", "fd17::/64", "via", "fd77::2")
    ipv6 = {"address": "fd00:ec2::254"}
    wait_until(lambda: role_or_none(host.box, **ipv6) == HOST_ROLE, what="a way to fd00:ec2::254")
    host.hook("add")
    for _ in range(10):
        assert_refused(host.box, **ipv6)
    assert role_seen_by(host.ec2, **ipv6) == HOST_ROLE
    host.hook("remove")
    assert role_seen_by(host.box, **ipv6) == HOST_ROLE


def test_only_loopback_and_what_the_hook_sends_reach_a_server_that_listens_everywhere(host):
    host.bridge("br-other", "172.31.0.1/24")
    other = host.container("br-other", "172.31.0.2/24", "172.31.0.1")
    server = StandIn(host.ec2, "0.0.0.0")
    try:
        # Named as the program it stands for: the hook closes no stranger's port.
        with named("ec2-role"):
            host.hook("add")
        assert role_seen_by(host.box) == "stand-in"
        for address in ("172.17.0.1", INSTANCE_ADDRESS, "172.31.0.1"):
            assert_refused(host.box, address=address, port=4567)
            assert_refused(other, address=address, port=4567)
        assert_refused(host.aws, address=INSTANCE_ADDRESS, port=4567)
        assert_refused(other)
        assert role_seen_by(host.ec2, address="127.0.0.1", port=4567) == "stand-in"
        assert role_seen_by(host.ec2, address="172.17.0.1", port=4567) == "stand-in"
    finally:
        server.close()


def test_add_does_not_close_a_port_on_which_another_program_listens(host):
    stranger = StandIn(host.ec2, INSTANCE_ADDRESS)
    try:
        added = host.hook("add", check=False)
        assert added.returncode == 1
        assert f"something else listens there at {INSTANCE_ADDRESS}" in added.stderr
        assert role_seen_by(host.aws, address=INSTANCE_ADDRESS, port=4567) == "stand-in"
        assert_refused(host.box)
    finally:
        stranger.close()


def test_a_container_has_128_connections_and_no_more_and_its_neighbour_has_its_own(host, server):
    neighbour = host.container("docker0", "172.17.0.3/24", "172.17.0.1")
    host.hook("add")
    with contextlib.ExitStack() as held:
        for _ in range(128):
            held.enter_context(open_connection(host.box))
        with pytest.raises(ConnectionRefusedError):
            open_connection(host.box)
        assert role_seen_by(neighbour) == "stand-in"
    wait_until(lambda: role_or_none(host.box) == "stand-in", what="a free place")


def test_64_clients_at_once_in_one_container_are_not_refused(host, server):
    host.hook("add")
    # Threads are born in the namespace of their parent: get enters it by itself.
    with concurrent.futures.ThreadPoolExecutor(64) as clients:
        for _ in range(3):
            assert set(clients.map(lambda _: role_seen_by(host.box), range(64))) == {"stand-in"}


def test_rules_go_before_those_of_a_closed_firewall(host, server):
    host.ec2.run("iptables", "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
    host.ec2.run("iptables", "-A", "INPUT", "-i", "docker0", "-j", "DROP")
    host.ec2.run("iptables", "-P", "INPUT", "DROP")
    host.hook("add")
    assert role_seen_by(host.box) == "stand-in"
    host.hook("add", "--bridge", "br-+")
    assert role_seen_by(host.box) == "stand-in"


def test_a_pattern_sends_each_bridge_to_its_own_address(host):
    host.hook("add", "--bridge", "br-+")
    servers = []
    try:
        for n in (1, 2):
            host.bridge(f"br-{n}", f"172.3{n}.0.1/24")
            servers.append(StandIn(host.ec2, f"172.3{n}.0.1", name=f"role-{n}"))
            box = host.container(f"br-{n}", f"172.3{n}.0.2/24", f"172.3{n}.0.1")
            assert role_seen_by(box) == f"role-{n}"
        assert_refused(host.box)
        status = host.hook("status", "--bridge", "br-+").stdout
        assert "a packet from 172.31.0.2 on br-1" in status and "a packet from 172.32.0.2 on br-2" in status
    finally:
        for server in servers:
            server.close()


def test_a_bridge_may_come_later_when_only_the_port_is_named(instance):
    instance.hook("add", "--to", ":4567")
    instance.bridge("docker0", "172.17.0.1/24")
    box = instance.container("docker0", "172.17.0.2/24", "172.17.0.1")
    assert_refused(box)
    server = StandIn(instance.ec2, "172.17.0.1")
    try:
        assert role_seen_by(box) == "stand-in"
        instance.hook("status", "--bridge", "docker0")
        instance.hook("add", "--to", ":4567")
        instance.hook("add")
        assert role_seen_by(box) == "stand-in"
    finally:
        server.close()


@pytest.mark.parametrize("shell", ["dash", "bash --posix"])
def test_another_systems_sh_does_the_same(host, server, shell):
    host.run(*shell.split(), HOOK, "add")
    host.run(*shell.split(), HOOK, "status")
    host.hook("status")
    assert role_seen_by(host.box) == "stand-in"
    host.run(*shell.split(), HOOK, "remove")
    assert "-A" not in firewall(host) and METADATA not in routing(host)


def test_a_bridge_by_name_goes_before_a_pattern_in_whatever_order_they_are_added(host):
    servers = [StandIn(host.ec2, "172.17.0.1", 4567, "by-name"), StandIn(host.ec2, "172.17.0.1", 4568, "by-pattern")]
    try:
        by_name = ("add", "--to", ":4567")
        by_pattern = ("add", "--bridge", "docker+", "--to", ":4568")
        for order in ((by_name, by_pattern), (by_pattern, by_name)):
            for arguments in order:
                host.hook(*arguments)
            assert role_seen_by(host.box) == "by-name"
            host.hook("remove")
            assert role_seen_by(host.box) == "by-pattern"
            host.hook("remove", "--all")
    finally:
        for server in servers:
            server.close()


def test_another_to_replaces_the_rules(host, server):
    newer = StandIn(host.ec2, "172.17.0.1", 4568, "newer")
    try:
        host.hook("add")
        once = firewall(host).count("\n")
        host.hook("add", "--to", "172.17.0.1:4568")
        assert role_seen_by(host.box) == "newer"
        assert firewall(host).count("\n") == once and "172.17.0.1:4567" not in firewall(host)
    finally:
        newer.close()


def test_a_replacement_is_without_a_gap(host, server):
    """Asked all the time while --to goes to and fro: the host's role never, an error never."""
    newer = StandIn(host.ec2, "172.17.0.1", 4568, "newer")
    host.hook("add")
    try:
        with concurrent.futures.ThreadPoolExecutor(1) as operator:
            def change():
                for port in (4568, 4567) * 3:
                    host.hook("add", "--to", f":{port}")
            changing = operator.submit(change)
            seen = set()
            while not changing.done():
                seen.add(role_seen_by(host.box))
            changing.result()
        assert seen == {"stand-in", "newer"}
    finally:
        newer.close()


def test_the_guard_goes_with_the_last_hook(host):
    host.bridge("br-other", "172.31.0.1/24")
    other = host.container("br-other", "172.31.0.2/24", "172.31.0.1")
    host.hook("add")
    host.hook("add", "--bridge", "br-other")
    host.hook("remove")
    assert_refused(host.box)
    assert_refused(other)
    host.hook("remove", "--bridge", "br-other")
    assert role_seen_by(host.box) == HOST_ROLE


def test_the_guard_stays_when_another_hooks_rules_were_flushed(host):
    host.bridge("br-other", "172.31.0.1/24")
    other = host.container("br-other", "172.31.0.2/24", "172.31.0.1")
    host.hook("add")
    host.hook("add", "--bridge", "br-other")
    for table in ("nat", "filter"):
        host.ec2.run("iptables", "-t", table, "-F")
    host.ec2.run("ip6tables", "-F")
    host.hook("remove")
    assert_refused(other)


def test_guard_on_outlives_the_last_hook_and_guard_off_does_not_take_it_from_one(host):
    for first, second in ((("guard", "on"), ("add",)), (("add",), ("guard", "on"))):
        host.hook(*first)
        host.hook(*second)
        host.hook("remove")
        assert_refused(host.box)
    host.hook("add")
    kept = host.hook("guard", "off")
    assert "needed by docker0" in kept.stderr
    assert_refused(host.box)
    host.hook("remove")
    assert role_seen_by(host.box) == HOST_ROLE


def test_remove_takes_its_own_rules_and_no_others(host):
    foreign = [
        ("iptables", "-t", "nat", "-A", "PREROUTING", "-i", "docker0", "-d", METADATA, "-p", "tcp", "--dport", "80",
         "-m", "comment", "--comment", "ec2-role-hook of somebody else", "-j", "RETURN"),
        ("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "4567", "-m", "comment",
         "--comment", "not-ec2-role-hook/docker0/172.17.0.1:4567", "-j", "ACCEPT"),
        ("ip", "rule", "add", "pref", "12", "to", "10.9.9.9", "prohibit"),
        ("ip", "rule", "add", "pref", "14", "to", "10.9.9.9", "nop"),
    ]
    for command in foreign:
        host.ec2.run(*command)
    # The tables exist before, so that saved text can be compared.
    for program in ("iptables", "ip6tables"):
        for table in ("nat", "filter", "mangle"):
            host.ec2.run(program, "-t", table, "-N", "x")
            host.ec2.run(program, "-t", table, "-X", "x")
    before = firewall(host), routing(host)
    host.hook("add")
    host.hook("add", "--bridge", "br-+")
    assert firewall(host) != before[0] and routing(host) != before[1]
    host.hook("remove", "--all")
    assert (firewall(host), routing(host)) == before


def test_what_a_shell_would_run_in_a_rule_that_looks_like_ours_is_not_run(host, tmp_path):
    """Whoever may write the host's firewall need not be its root."""
    host.hook("add")
    trap = "$(>ran)"
    host.ec2.run("iptables", "-I", "INPUT", "-m", "comment", "--comment", f"ec2-role-hook/docker0/{trap}", "-j", "ACCEPT")
    host.ec2.run("ip", "rule", "add", "pref", "15", "to", METADATA, "iif", trap, "nop")
    for arguments in (("add",), ("guard", "on"), ("remove", "--all"), ("guard", "off")):
        host.run(HOOK, *arguments, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_remove_without_a_hook_changes_nothing_and_says_so(host):
    before = routing(host)
    removed = host.hook("remove")
    assert "docker0: no hook is in place" in removed.stderr
    assert routing(host) == before


def test_remove_of_one_hook_keeps_anothers_that_begins_with_its_name(host):
    host.bridge("docker01", "172.31.0.1/24")
    host.hook("add")
    host.hook("add", "--bridge", "docker01")
    host.hook("remove")
    host.hook("status", "--bridge", "docker01")


@pytest.mark.parametrize("arguments", [
    ("add",), ("add", "--bridge", "br-+"), ("add", "--container-endpoint"), ("add", "--to", "172.17.0.1:80"),
])
def test_dry_run_prints_the_very_commands_and_changes_nothing(host, arguments):
    before = firewall(host), routing(host)
    printed = host.hook(*arguments, "--dry-run").stdout
    assert routing(host) == before[1] and "-A" not in firewall(host)
    host.ec2.run("sh", "-euc", printed)
    by_hand = firewall(host), routing(host)
    host.hook("remove", "--all")
    host.hook(*arguments)
    assert (firewall(host), routing(host)) == by_hand
    taken_away = host.hook("remove", "--all", "--dry-run").stdout
    assert (firewall(host), routing(host)) == by_hand
    host.ec2.run("sh", "-euc", taken_away)
    assert routing(host) == before[1] and "-A" not in firewall(host)


@pytest.mark.parametrize("arguments", [
    ("add", "--bridge", "br-none"), ("add", "--iptables", "iptables-none"), ("guard", "on", "--iptables", "iptables-none"),
])
def test_a_dry_run_that_finds_something_missing_does_not_say_that_anything_was_done(host, arguments):
    before = routing(host)
    failed = host.hook(*arguments, "--dry-run", check=False)
    assert failed.returncode == 1
    assert failed.stderr.endswith("; nothing was changed (--dry-run)\n") and "the guard" not in failed.stderr
    assert routing(host) == before


def test_dry_run_prints_the_rules_of_a_bridge_that_is_not_there_yet(instance):
    printed = instance.hook("add", "--to", "172.17.0.1:4567", "--dry-run").stdout
    instance.bridge("docker0", "172.17.0.1/24")
    assert instance.hook("add", "--to", "172.17.0.1:4567", "--dry-run").stdout == printed


def test_remove_and_guard_say_what_they_did_in_a_line_for_each_thing(host):
    def said(*arguments):
        return [line.removeprefix("ec2-role-hook: ") for line in host.hook(*arguments).stderr.splitlines()]

    on = "the guard is on: only the host itself reaches 169.254.169.254; guard off lifts it"
    off = "the guard is off: containers may reach the real service"
    assert said("guard", "on") == [on]
    assert said("guard", "on") == ["the guard is on already"]
    assert said("guard", "on", "--dry-run") == []
    assert said("guard", "off") == [off]
    assert said("guard", "off") == ["the guard is off already"]
    host.hook("add")
    assert said("remove") == ["docker0: the hook is removed", off]
    assert said("remove") == ["docker0: no hook is in place", "the guard is off already"]
    assert said("remove", "--all") == ["no hook is in place", "the guard is off already"]


def test_dry_run_needs_no_root(host):
    as_root = host.hook("add", "--dry-run").stdout
    # The repository may be where nobody can read it.
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-s", "--", "add")
    printed = host.run(*nobody, "--dry-run", input=HOOK.read_text())
    assert printed.stdout == as_root
    refused = host.run(*nobody, input=HOOK.read_text(), check=False)
    assert refused.returncode == 1 and "must be root" in refused.stderr


@pytest.mark.parametrize("arguments, complaint", [
    (("add", "--to", "127.0.0.1:4567"), "drops what is redirected from a bridge to loopback"),
    (("add", "--to", "169.254.169.254:80"), "the real metadata service"),
    (("add", "--to", "0.0.0.0:4567"), "not an address to send to"),
    (("add", "--to", "172.17.0.1"), "no port"),
    (("add", "--to", "172.17.0.1:0"), "1 to 65535"),
    (("add", "--to", "172.17.0.1:70000"), "1 to 65535"),
    (("add", "--to", "172.17.0.1:4567 -j ACCEPT"), "1 to 65535"),
    (("add", "--to", "[fd00::1]:4567"), "not an IPv4 address"),
    (("add", "--to", "172.17.0.256:4567"), "not an IPv4 address"),
    (("add", "--to", "172.17.0.010:4567"), "not an IPv4 address"),
    (("add", "--bridge", "lo"), "never redirected"),
    (("add", "--bridge", "+"), "not the name of an interface"),
    (("add", "--bridge", "a-name-too-long-for-it"), "not the name of an interface"),
    (("add", "--bridge", "docker0;reboot"), "not the name of an interface"),
    (("add", "--bridge", "docker0\nlo"), "a line break"),
    (("add", "--bridge"), "needs a value"),
    (("add", "--bridge", "br-+", "--source", "172.17.0.9"), "one bridge, not a pattern"),
    (("add", "--source", "here"), "not an IPv4 address"),
    (("add", "--iptables", "rm"), "not a name of it"),
    (("add", "--no-such-option"), "not an option of add"),
    (("status", "--to", ":1"), "not an option of status"),
    (("remove", "--all", "--bridge", "docker0"), "takes every hook"),
    (("guard",), "guard: say on or off"),
    (("guard", "of"), "guard of: say on or off"),
    (("guard", "on", "off"), "guard on off: say on or off, once"),
    (("start",), "not a command"),
])
def test_what_was_written_wrong_is_said_in_one_line_and_changes_nothing(host, arguments, complaint):
    before = routing(host)
    refused = host.hook(*arguments, check=False)
    assert refused.returncode == 2
    assert complaint in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert routing(host) == before


@pytest.mark.parametrize("arguments, complaint", [
    (("--bridge", "br-none"), "br-none: no such bridge"),
    (("--to", "10.1.2.3:4567"), "neither an address of this host nor of a container"),
    (("--iptables", "iptables-none"), "iptables-none: not found; install iptables"),
    (("--source", "172.17.0.9"), "a network for each role"),
])
def test_what_is_missing_is_said_and_the_guard_is_on_all_the_same(host, arguments, complaint):
    host.environment = {**host.environment, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DOCKER_HOST": "unix:///none"}
    refused = host.hook("add", *arguments, check=False)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].endswith("until then every container gets an error")
    assert_refused(host.box)
    assert role_seen_by(host.ec2) == HOST_ROLE
    if "--source" not in arguments:
        assert complaint in refused.stderr


def test_a_guard_that_could_not_be_turned_on_is_not_said_to_be_on(host, tmp_path):
    ip = tmp_path / "ip"
    ip.write_text('#!/bin/sh\ncase $* in *"rule add"*prohibit*) echo no >&2; exit 2 ;; esac\nexec /sbin/ip "$@"\n')
    ip.chmod(0o755)
    host.environment = {**host.environment, "PATH": f"{tmp_path}:{host.environment['PATH']}"}
    for arguments in (("add",), ("guard", "on")):
        failed = host.hook(*arguments, check=False)
        assert failed.returncode == 1 and "the guard is" in failed.stderr.lower() and " not " in failed.stderr.lower()
        assert "the guard is: " not in failed.stderr and "the guard is on" not in failed.stderr


def test_a_bridge_without_an_address_is_said(host):
    host.ec2.run("ip", "link", "add", "br-bare", "type", "bridge")
    assert "br-bare: has no IPv4 address" in host.hook("add", "--bridge", "br-bare", check=False).stderr


def test_status_without_anything_says_so_and_fails(host):
    status = host.hook("status", check=False)
    assert status.returncode == 4 and "no hook is in place" in status.stdout
    status = host.hook("status", "--bridge", "docker0", check=False)
    assert status.returncode == 4 and "MISSING" in status.stdout
    host.hook("guard", "on")
    assert host.hook("status", "--bridge", "docker0", check=False).returncode == 1


def test_status_finds_a_rule_that_leads_past_the_guard(host):
    host.hook("add")
    host.hook("status")
    host.ec2.run("ip", "rule", "add", "pref", "5", "iif", "docker0", "lookup", "main")
    status = host.hook("status", check=False)
    assert status.returncode == 4
    assert "MISSING  a packet from 172.17.0.2 on docker0 to 169.254.169.254 has no way there" in status.stdout


@pytest.mark.parametrize("preference, status", [(11, 1), (12, 4), (13, 1), (15, 1)])
def test_status_misses_each_rule_of_the_guard_and_says_4_for_the_one_that_refuses(host, preference, status):
    host.hook("add")
    host.ec2.run("ip", "rule", "delete", "pref", str(preference))
    said = host.hook("status", check=False)
    assert said.returncode == status and f"MISSING  ip -4 rule {preference}:" in said.stdout
    host.hook("add")
    host.hook("status")


def test_ten_hooks_added_at_once_are_all_in_place(host):
    for n in range(10):
        host.bridge(f"br-{n}", f"172.31.{n}.1/24")
    with concurrent.futures.ThreadPoolExecutor(10) as operators:
        list(operators.map(lambda n: host.hook("add", "--bridge", f"br-{n}"), range(10)))
    host.hook("status")
    servers = [StandIn(host.ec2, f"172.31.{n}.1", name=f"role-{n}") for n in range(10)]
    try:
        for n in (0, 4, 9):
            box = host.container(f"br-{n}", f"172.31.{n}.2/24", f"172.31.{n}.1")
            assert role_seen_by(box) == f"role-{n}"
            for other in set(range(10)) - {n}:
                assert_refused(box, address=f"172.31.{other}.1", port=4567)
    finally:
        for server in servers:
            server.close()


def test_the_container_endpoint_is_sent_only_when_asked_for(host, server):
    host.hook("add")
    with pytest.raises(OSError):
        get(host.box, "/v2/credentials/x", address="169.254.170.2", timeout=0.5)
    host.hook("add", "--container-endpoint")
    assert get(host.box, "/v2/credentials/x", address="169.254.170.2") == (200, "stand-in")
    assert role_seen_by(host.box) == "stand-in"
    host.hook("status")
    host.hook("add")
    with pytest.raises(OSError):
        get(host.box, "/v2/credentials/x", address="169.254.170.2", timeout=0.5)


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_the_container_endpoint_is_refused_where_another_rule_has_it(host, program):
    """As the ECS agent's set-up makes it, with either variant of iptables."""
    host.ec2.run(program, "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "-d", "169.254.170.2", "--dport", "80",
                 "-j", "DNAT", "--to-destination", "127.0.0.1:51679")
    refused = host.hook("add", "--container-endpoint", check=False)
    assert refused.returncode == 1 and "another rule has 169.254.170.2" in refused.stderr
    host.hook("add")


@pytest.mark.parametrize("command", [
    ("ip", "address", "add", "169.254.170.2/32", "dev", "docker0"),
    ("ip", "route", "add", "169.254.170.2", "dev", "docker0"),
])
def test_the_container_endpoint_is_refused_where_the_host_has_its_address_or_a_route(host, command):
    host.ec2.run(*command)
    refused = host.hook("add", "--container-endpoint", check=False)
    assert refused.returncode == 1 and "this host" in refused.stderr


def test_the_guard_outlives_a_restart_of_systemd_networkd(host):
    """networkd takes away every policy rule that it does not know, but for those of protocol kernel."""
    networkd = "/lib/systemd/systemd-networkd"
    if not os.access(networkd, os.X_OK):
        pytest.skip("no systemd-networkd here")
    host.hook("add")
    host.ec2.run("ip", "rule", "add", "pref", "99", "to", "10.9.9.9", "prohibit")
    # A link of its own to configure, which udev is said to have seen.
    host.bridge("br-networkd", "172.31.0.1/24")
    prepare = """
        mount -t sysfs sysfs /sys
        mount -t tmpfs tmpfs /run
        mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp /run/udev/data
        chown -R systemd-network /run/systemd/netif
        for index in 1 2 3 4 5 6 7 8 9; do echo I:1 > /run/udev/data/n$index; done
        touch /run/udev/control
        printf '[Match]\\nName=br-networkd\\n[Network]\\nAddress=10.8.8.8/24\\nConfigureWithoutCarrier=yes\\n' > /run/systemd/network/x.network
        """
    with host.ec2:
        daemon = subprocess.Popen(["unshare", "--mount", "sh", "-euc", f"{prepare} exec {networkd}"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=host.environment)
    try:
        wait_until(lambda: "10.9.9.9" not in routing(host), what="networkd taking a rule away")
    finally:
        daemon.terminate()
        daemon.wait(10)
    assert_refused(host.box)
    assert "prohibit" in routing(host)
