"""The hook's rules, packet by packet, between bridges and namespaces made with `ip`. No Docker and no ec2-role."""

import concurrent.futures
import contextlib
import http.client
import itertools
import re
import resource
import shutil
import socket
import struct

import pytest

from asking import assert_refused, role_or_none, role_seen_by
from instance import (
    GUARD, HOOK, INSTANCE_ADDRESS, METADATA, METADATA_IPV6, firewall, first_in_path, get, open_connection, routing, rules, wait_until, with_busybox_flock)
from real_metadata import HOST_ROLE, LIST
from stand_in import StandIn, named

LIFTED_BY = "(ec2-role-guard off lifts it)"


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_add_redirects_the_container_and_not_the_host(host, server, program):
    before = rules(host, program)
    assert LIFTED_BY in host.hook("add", "--iptables", program).stderr
    assert role_seen_by(host.box) == "stand-in"
    assert role_seen_by(host.ec2) == HOST_ROLE
    status = host.hook("status", "--iptables", program)
    assert status.stdout == "ok: docker0 → 172.17.0.1:4567\n"
    with_hook = firewall(host, program)
    assert "in place already" in host.hook("add", "--iptables", program).stderr
    assert firewall(host, program) == with_hook
    removed = host.hook("remove", "--iptables", program)
    assert rules(host, program) == before and "EC2-ROLE" not in firewall(host, program)
    # `ec2-role-hook remove` leaves the guard on and prints the command that turns it off.
    assert removed.stderr.endswith("ec2-role-guard off lifts it\n")
    assert_refused(host.box)
    host.guard("off")
    assert role_seen_by(host.box) == HOST_ROLE


def test_hook_runs_through_a_symlink_with_crons_path(host, server, tmp_path):
    (tmp_path / "hook").symlink_to(HOOK)
    host.run("env", "PATH=/usr/bin:/bin", tmp_path / "hook", "add")
    assert role_seen_by(host.box) == "stand-in"
    # Without the guard beside it, the hook takes the one in the PATH.
    alone = shutil.copy(HOOK, tmp_path / "alone")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ec2-role-guard").symlink_to(GUARD)
    host.run("env", f"PATH=/usr/bin:/bin:{tmp_path}/bin", alone, "add")


@pytest.mark.parametrize("bridged", [0, 1])
def test_refusals_are_resets_behind_a_closed_firewall(host, bridged):
    """Sends a hundred requests on a bridge without a hook. All refusals are prompt, because they are TCP resets: the kernel
    limits only the rate of ICMP errors. If `bridged` is 1, br_netfilter passes bridged packets to iptables too."""
    host.ec2.run("iptables", "-P", "INPUT", "DROP")
    host.ec2.run("sysctl", "-qw", f"net.bridge.bridge-nf-call-iptables={bridged}")
    host.hook("add", "--bridge", "br-+", "--missing-ok")
    for _ in range(100):
        assert_refused(host.box)
    assert_refused(host.box, port=443)


def test_program_on_the_refusal_port_is_reported(host, server):
    for loopback in ("127.0.0.1", "::ffff:127.0.0.1"):
        on_loopback = StandIn(host.ec2, loopback, 1, "loopback")
        assert "port 1" not in host.hook("add").stderr and host.hook("status").stdout.startswith("ok: ")
        on_loopback.close()
    stranger = StandIn(host.ec2, "0.0.0.0", 1, "stranger")
    try:
        assert "port 1: a program listens there" in host.hook("add").stderr
        assert host.hook("status", check=False).stdout.startswith("NOT ok: port 1: a program listens there")
    finally:
        stranger.close()


def test_without_a_server_the_container_is_refused(host):
    host.hook("add")
    assert_refused(host.box)


@pytest.fixture
def six(both_families):
    """The fixture `both_families` with a server on [::]."""
    host = both_families
    server = StandIn(host.ec2, "::", name="on-both")
    with named("ec2-role"):
        yield host
    server.close()


def test_ipv6_is_redirected_like_ipv4(six):
    six.hook("add")
    assert role_seen_by(six.box) == role_seen_by(six.box, address=METADATA_IPV6) == "on-both"
    assert role_seen_by(six.ec2, address=METADATA_IPV6) == HOST_ROLE
    assert_refused(six.box, address="fd17::1", port=4567)
    assert six.hook("status").stdout.startswith("ok: ")
    assert any(f"-d {METADATA_IPV6}/128 -i docker0 -m rpfilter --invert -j DROP" in rule for rule in rules(six))
    with contextlib.ExitStack() as held:
        for _ in range(128):
            held.enter_context(open_connection(six.box, address=METADATA_IPV6))
        with pytest.raises(ConnectionRefusedError):
            open_connection(six.box, address=METADATA_IPV6)
    six.ec2.run("ip6tables", "-t", "nat", "-F")
    assert role_or_none(six.box, address=METADATA_IPV6) is None
    assert "IPv6, table nat" in six.hook("status", check=False).stdout


def test_ipv6_is_redirected_to_a_server_at_the_bridges_address(both_families, server):
    six = StandIn(both_families.ec2, "fd17::1", name="over-ipv6")
    with named("ec2-role"):
        both_families.hook("add")
    assert role_seen_by(both_families.box) == "stand-in"
    assert role_seen_by(both_families.box, address=METADATA_IPV6) == "over-ipv6"
    six.close()


def test_ipv6_is_refused_at_once_on_a_bridge_without_a_hook(six):
    six.hook("add", "--bridge", "br-+", "--missing-ok")
    for _ in range(10):
        assert_refused(six.box, address=METADATA_IPV6)


def test_a_connection_opened_before_add_ends_in_an_error(host, server):
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


def test_only_loopback_and_the_hook_reach_the_servers_port(host):
    host.bridge("br-other", "172.31.0.1/24")
    other = host.container("br-other", "172.31.0.2/24", "172.31.0.1")
    server = StandIn(host.ec2, "0.0.0.0")
    try:
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


def test_add_does_not_close_the_port_of_another_program(host):
    stranger = StandIn(host.ec2, INSTANCE_ADDRESS)
    try:
        # A user can put control characters into a process's name. The message must not contain them.
        with named("a\x1b[2J\u202e"):
            added = host.hook("add", check=False)
        assert added.returncode == 1 and f'port 4567: something else listens there at {INSTANCE_ADDRESS}:4567 ((("a[2J",' in added.stderr
        # The refused command has changed one thing: the guard is on. The message says so.
        assert LIFTED_BY in added.stderr and role_or_none(host.box) is None
        assert role_seen_by(host.aws, address=INSTANCE_ADDRESS, port=4567) == "stand-in"
    finally:
        stranger.close()


def test_add_reports_a_program_listening_on_all_addresses(host):
    """ss prints this listener's address as *:4567. If the hook used this as a pattern, it would match ec2-role's address, and
    the hook would take the listener for ec2-role."""
    host.hook("add")
    stranger = StandIn(host.ec2, "::")
    try:
        added = host.hook("add", check=False)
        assert added.returncode == 1 and "something else listens there at *:4567" in added.stderr
    finally:
        stranger.close()


def test_each_container_is_limited_to_128_connections(host, server):
    neighbour = host.container("docker0", "172.17.0.3/24", "172.17.0.1")
    host.hook("add")
    with contextlib.ExitStack() as held:
        for _ in range(128):
            held.enter_context(open_connection(host.box))
        with pytest.raises(ConnectionRefusedError):
            open_connection(host.box)
        assert role_seen_by(neighbour) == "stand-in"
    wait_until(lambda: role_or_none(host.box) == "stand-in", what="a free place")


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def syn(source, port):
    ends = socket.inet_aton(source) + socket.inet_aton(METADATA)
    tcp = struct.pack("!HHIIBBHHH", port, 80, 1, 0, 5 << 4, 2, 1024, 0, 0)
    sum_ = checksum(ends + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(tcp)) + tcp)
    return struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 64, socket.IPPROTO_TCP, 0) + ends + tcp[:16] + struct.pack("!H", sum_) + tcp[18:]


def test_forged_sources_do_not_use_up_another_bridges_limit(host):
    for n in (1, 2):
        host.bridge(f"br-{n}", f"172.3{n}.0.1/24")
    victim, sender = (host.container(f"br-{n}", f"172.3{n}.0.2/24", f"172.3{n}.0.1") for n in (1, 2))
    # The server also listens at the sender's bridge, where the forged packets arrive, because the limit does not count a
    # connection that the host refuses.
    server = StandIn(host.ec2, "0.0.0.0")
    try:
        with named("ec2-role"):
            host.hook("add", "--bridge", "br-+")
        # Drop the victim's TCP resets: they would end the forged connections, which would then no longer be counted.
        victim.run("iptables", "-A", "OUTPUT", "-p", "tcp", "--sport", "1000:1999", "-j", "DROP")
        with sender:
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        for port in range(1000, 1200):
            raw.sendto(syn("172.31.0.2", port), (METADATA, 0))
        raw.close()
        assert role_seen_by(victim) == "stand-in"
    finally:
        server.close()


def test_64_clients_at_once_in_one_container_are_not_refused(host, server):
    host.hook("add")
    # Each thread enters the container's namespace itself, in role_seen_by: setns moves only the thread that calls it.
    with concurrent.futures.ThreadPoolExecutor(64) as clients:
        for _ in range(3):
            assert set(clients.map(lambda _: role_seen_by(host.box), range(64))) == {"stand-in"}


def test_hook_precedes_the_rules_of_a_closed_firewall(host, server):
    host.ec2.run("iptables", "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
    host.ec2.run("iptables", "-A", "INPUT", "-i", "docker0", "-j", "DROP")
    host.ec2.run("iptables", "-P", "INPUT", "DROP")
    host.hook("add")
    assert role_seen_by(host.box) == "stand-in"


def test_pattern_redirects_each_bridge_to_its_own_address(host):
    host.hook("add", "--bridge", "br-+", "--missing-ok")
    with contextlib.ExitStack() as servers:
        for n in (1, 2):
            host.bridge(f"br-{n}", f"172.3{n}.0.1/24")
            servers.callback(StandIn(host.ec2, f"172.3{n}.0.1", name=f"role-{n}").close)
            box = host.container(f"br-{n}", f"172.3{n}.0.2/24", f"172.3{n}.0.1")
            assert role_seen_by(box) == f"role-{n}"
        assert_refused(host.box)
        assert host.hook("status").stdout == "ok: br-+ → 172.31.0.1:4567, 172.32.0.1:4567\n"


def test_missing_ok_accepts_a_bridge_that_is_created_later(instance):
    assert "docker0 (no such bridge yet): 169.254.169.254 is ec2-role at its own address:4567" in instance.hook("add", "--missing-ok").stderr
    assert instance.hook("status").stdout == "ok: docker0 → :4567 (no such bridge yet)\n"
    instance.bridge("docker0", "172.17.0.1/24")
    box = instance.container("docker0", "172.17.0.2/24", "172.17.0.1")
    assert_refused(box)
    server = StandIn(instance.ec2, "172.17.0.1")
    try:
        assert role_seen_by(box) == "stand-in"
        assert "in place already" in instance.hook("add").stderr
    finally:
        server.close()


@pytest.mark.parametrize("arguments, complaint", [
    (("--bridge", "dokcer0"), "dokcer0: no such bridge; give another --bridge, or --missing-ok"),
    (("--bridge", "dokcer+"), "dokcer+: no such bridge"),
    (("--bridge", "eth0"), "eth0: eth0 is not a bridge with containers on it"),
    (("--bridge", "e+", "--missing-ok"), "e+: eth0 is not a bridge"),
    (("--bridge", "lo"), "lo: lo is not a bridge"),
    (("--bridge", "br-lan"), "br-lan leads out of this host"),
    (("--bridge", "br-six"), "br-six leads out of this host"),
    (("--bridge", "br-bare"), "br-bare has no IPv4 address"),
    (("--to", "10.1.2.3:4567"), "this host has no such address; a server in a container is on the host's network"),
    (("--to", "172.17.0.2:4567"), "this host has no such address"),
])
def test_unsuitable_bridge_or_address_changes_nothing(host, arguments, complaint):
    host.ec2.run("ip", "link", "add", "br-bare", "type", "bridge")
    host.bridge("br-lan", "10.88.0.1/24")
    host.ec2.run("ip", "route", "add", "default", "via", "10.88.0.9", "metric", "9")
    host.bridge("br-six", "10.89.0.1/24")
    host.ec2.run("ip", "-6", "route", "add", "default", "dev", "br-six", "metric", "9")
    refused = host.hook("add", *arguments, check=False)
    assert refused.returncode == 1 and complaint in refused.stderr
    assert refused.stderr.endswith("; nothing was changed\n") and refused.stderr.count("\n") == 1
    assert METADATA not in routing(host) and "EC2-ROLE" not in firewall(host)


def test_an_address_that_the_host_has_lost_is_reported(host, server):
    """The server goes on listening at the address, as a socket of systemd with FreeBind= does."""
    host.hook("add", "--to", "172.17.0.1:4567")
    assert host.hook("status").stdout.startswith("ok: ")
    host.ec2.ip("address delete 172.17.0.1/24 dev docker0", "address add 172.17.0.9/24 dev docker0")
    assert role_or_none(host.box) is None
    assert host.hook("status", check=False).stdout == (
        "NOT ok: docker0: this host has no address 172.17.0.1; run ec2-role-hook add with another --to\n")


def test_bridge_without_an_address_does_not_affect_others(host, server):
    """Docker makes a bridge without an IPv4 address for a network with the option inhibit_ipv4 or without IPv4."""
    host.ec2.run("ip", "link", "add", "docker1", "type", "bridge")
    host.hook("add", "--bridge", "docker+")
    assert role_seen_by(host.box) == "stand-in"
    assert host.hook("status").stdout == "ok: docker+ → 172.17.0.1:4567\n"


def test_bridge_removed_while_add_runs_is_skipped(host, server, tmp_path):
    host.bridge("docker1", "172.31.0.1/24")
    ip = shutil.which("ip")
    path = first_in_path(tmp_path, "ip", f'case $* in *"dev docker1 type bridge") {ip} link delete docker1 ;; esac\nexec {ip} "$@"')
    added = host.run("env", f"PATH={path}", HOOK, "add", "--bridge", "docker+", check=False)
    assert added.returncode == 0, added.stderr
    assert role_seen_by(host.box) == "stand-in"
    assert host.hook("status").stdout == "ok: docker+ → 172.17.0.1:4567\n"


def test_server_bound_to_the_bridge_device_is_accepted(host):
    """BindToDevice= in a socket unit binds the socket to the bridge. ss then prints the device after the address."""
    with host.ec2, socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"docker0")
        listener.bind(("172.17.0.1", 4567))
        listener.listen()
        host.hook("add")
        assert host.hook("status").stdout == "ok: docker0 → 172.17.0.1:4567\n"


def test_add_without_iptables_fails_and_turns_on_the_guard(host):
    failed = host.hook("add", "--iptables", "iptables-none", check=False)
    assert failed.returncode == 1 and "iptables-none: " in failed.stderr and LIFTED_BY in failed.stderr
    assert_refused(host.box)


def test_add_reports_a_bypassed_guard_and_adds_the_hook(host, server):
    host.ec2.run("ip", "rule", "add", "pref", "0", "iif", "docker0", "lookup", "main")
    added = host.hook("add", check=False)
    assert added.returncode == 4 and "docker0: the hook is in place; ec2-role-guard: bypassed" in added.stderr
    assert role_seen_by(host.box) == "stand-in"
    assert host.hook("status", check=False).returncode == 4


@pytest.mark.parametrize("shell", ["dash", "bash --posix"])
def test_hook_works_alike_in_dash_and_bash(host, server, shell):
    host.run(*shell.split(), HOOK, "add")
    by_shell = firewall(host)
    assert host.run(*shell.split(), HOOK, "status").stdout == host.hook("status").stdout
    host.run(*shell.split(), HOOK, "remove")
    assert rules(host) == []
    host.hook("add")
    assert firewall(host) == by_shell


@pytest.mark.parametrize("order", [1, -1])
def test_hook_of_a_named_bridge_precedes_a_pattern(host, order):
    servers = [StandIn(host.ec2, "172.17.0.1", 4567, "by-name"), StandIn(host.ec2, "172.17.0.1", 4568, "by-pattern")]
    try:
        for arguments in [("add", "--to", ":4567"), ("add", "--bridge", "docker+", "--to", ":4568")][::order]:
            host.hook(*arguments)
        assert role_seen_by(host.box) == "by-name"
        status = host.hook("status").stdout
        assert "docker0 → 172.17.0.1:4567\n" in status and "172.17.0.1:4568" not in status
        host.hook("remove")
        assert role_seen_by(host.box) == "by-pattern"
    finally:
        for server in servers:
            server.close()


def test_changed_to_option_replaces_the_rules_without_a_gap(host, server):
    """A container that sends requests all the time never gets the host's role or an error while --to changes back and forth."""
    newer = StandIn(host.ec2, "172.17.0.1", 4568, "newer")
    host.hook("add", "--to", "172.17.0.1:4567")
    once = firewall(host)
    try:
        with concurrent.futures.ThreadPoolExecutor(1) as operator:
            def change():
                for port in (4568, 4567) * 3:
                    host.hook("add", "--to", f"172.17.0.1:{port}")
            changing = operator.submit(change)
            seen = set()
            while not changing.done():
                seen.add(role_seen_by(host.box))
            changing.result()
        assert seen == {"stand-in", "newer"}
        assert firewall(host) == once
    finally:
        newer.close()


def test_firewall_accepts_both_ports_while_hook_is_replaced(host):
    host.hook("add", "--to", ":4567")
    tables = re.findall(r"\*filter\n(.*?)COMMIT", host.hook("add", "--to", ":4568", "--dry-run").stdout, re.S)
    let_in = [re.findall(r"-i docker0 .*--dport (\d+) .* -j ACCEPT", table) for table in tables]
    # `add` writes two filter tables for each IP family. The table before the nat table opens the new port beside the old one. The
    # table after the nat table closes the old port.
    assert [sorted(ports) for ports in let_in] == [["4567", "4568"], ["4568"]] * 2


def test_guard_refuses_containers_after_all_hooks_are_removed(host):
    host.bridge("br-other", "172.31.0.1/24")
    other = host.container("br-other", "172.31.0.2/24", "172.31.0.1")
    host.hook("add")
    host.hook("add", "--bridge", "br-other")
    for table in ("raw", "nat", "filter"):
        host.ec2.run("iptables", "-t", table, "-F")
    for arguments in ((), ("--bridge", "br-other"), ("--all",)):
        host.hook("remove", *arguments)
        assert role_or_none(host.box) is role_or_none(other) is None


def test_add_for_one_bridge_repairs_the_hooks_of_all(host, server):
    host.bridge("br-other", "172.31.0.1/24")
    host.hook("add")
    host.hook("add", "--bridge", "br-other", "--to", ":4568")
    for program in ("iptables", "ip6tables"):
        before = firewall(host)
        host.ec2.run(program, "-t", "nat", "-F")
        host.ec2.run(program, "-t", "raw", "-F")
        host.hook("add")
        assert firewall(host) == before


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("table", ["raw", "nat", "filter"])
def test_status_reports_and_add_repairs_a_flushed_table(host, server, program, table):
    host.hook("add", "--iptables", program)
    host.ec2.run(program, "-t", table, "-F")
    assert role_or_none(host.box) == (None if table == "nat" else "stand-in")
    status = host.hook("status", "--iptables", program, check=False)
    assert status.returncode == 1
    assert status.stdout == f"NOT ok: IPv4, table {table}: not all rules of the hook are there; run ec2-role-hook add again, with the same options\n"
    host.hook("add", "--iptables", program)
    assert host.hook("status", "--iptables", program).stdout.startswith("ok: ")
    assert role_seen_by(host.box) == "stand-in"


def test_remove_deletes_its_own_rules_only(host):
    foreign = [
        ("iptables", "-t", "nat", "-A", "PREROUTING", "-i", "docker0", "-d", METADATA, "-p", "tcp", "--dport", "80",
         "-m", "comment", "--comment", "a rule\nEC2-ROLE of $(somebody) else", "-j", "RETURN"),
        ("iptables", "-N", "EC2-ROLE-SITE"), ("iptables", "-A", "INPUT", "-p", "tcp", "-j", "EC2-ROLE-SITE"),
    ]
    for command in foreign:
        host.ec2.run(*command)
    # Create all tables first: iptables-save prints only tables that exist, and its output is compared.
    for program in ("iptables", "ip6tables"):
        for table in ("nat", "filter", "raw"):
            host.ec2.run(program, "-t", table, "-N", "x")
            host.ec2.run(program, "-t", table, "-X", "x")
    before = firewall(host)
    host.hook("add")
    host.hook("add", "--bridge", "docker+", "--container-endpoint")
    assert firewall(host) != before
    host.hook("remove", "--all")
    assert firewall(host) == before
    assert host.hook("remove").stderr.startswith("ec2-role-hook: docker0: no hook is in place\n")


@pytest.mark.parametrize("rule", ["-t nat -I PREROUTING -m comment --comment |-j*EC2-ROLE| -j EC2-ROLE", "-A FORWARD -j EC2-ROLE", "-A INPUT -j EC2-ROLE"])
def test_remove_deletes_every_jump_to_the_hooks_chains(host, rule):
    host.hook("add")
    host.ec2.run("iptables", *(word.strip("|").replace("*", " ") for word in rule.split()))
    host.hook("remove", "--all")
    assert rules(host) == [] and "EC2-ROLE" not in firewall(host)


def test_add_deletes_rules_of_other_programs_in_its_chains(host, server):
    host.hook("add")
    before = firewall(host)
    for arguments in (["-m", "comment", "--comment", "--to-ports 99 -i docker9"], ["--dport", "80"]):
        ports = "77" if "comment" in arguments else "77-79"
        host.ec2.run("iptables", "-t", "nat", "-A", "EC2-ROLE", "-i", "x", "-p", "tcp", *arguments, "-j", "REDIRECT", "--to-ports", ports)
        assert host.hook("status", check=False).stdout == "NOT ok: IPv4, table nat: not all rules of the hook are there; run ec2-role-hook add again, with the same options\n"
        host.hook("add")
        assert firewall(host) == before


def test_remove_keeps_the_hook_of_a_longer_bridge_name(host):
    host.bridge("docker01", "172.31.0.1/24")
    server = StandIn(host.ec2, "172.31.0.1")
    try:
        with named("ec2-role"):
            host.hook("add")
            host.hook("add", "--bridge", "docker01")
        host.hook("remove")
        assert host.hook("status").stdout == "ok: docker01 → 172.31.0.1:4567\n"
    finally:
        server.close()


@pytest.mark.parametrize("arguments", [(), ("--bridge", "br-+", "--missing-ok"), ("--container-endpoint",), ("--to", "172.17.0.1:80")])
def test_dry_run_prints_the_commands_and_changes_nothing(host, arguments):
    printed = host.hook("add", *arguments, "--dry-run").stdout
    assert METADATA not in routing(host) and rules(host) == []
    host.ec2.run("sh", "-euc", printed)
    by_hand = firewall(host), routing(host)
    host.hook("remove", "--all")
    host.hook("add", *arguments)
    assert (firewall(host), routing(host)) == by_hand
    taken_away = host.hook("remove", "--all", "--dry-run").stdout
    assert (firewall(host), routing(host)) == by_hand
    host.ec2.run("sh", "-euc", taken_away)
    assert rules(host) == []


@pytest.mark.parametrize("arguments, complaint", [
    (("add", "--to", "127.0.0.1:4567"), "containers cannot be sent there"),
    (("add", "--to", "169.254.169.254:80"), "containers cannot be sent there"),
    (("add", "--to", "0.0.0.0:4567"), "containers cannot be sent there"),
    (("add", "--to", "172.17.0.1"), "no port"),
    (("add", "--to", "172.17.0.1:0"), "1 to 65535"),
    (("add", "--to", "172.17.0.1:70000"), "1 to 65535"),
    (("add", "--to", "172.17.0.1:4567 -j ACCEPT"), "1 to 65535"),
    (("add", "--to", "[fd00::1]:4567"), "not an IPv4 address"),
    (("add", "--to", "172.17.0.256:4567"), "not an IPv4 address"),
    (("add", "--to", "172.17.0.010:4567"), "not an IPv4 address"),
    (("add", "--to", ":1"), "what is refused is sent to port 1; take another"),
    (("add", "--bridge", "+"), "not the name of an interface"),
    (("add", "--bridge", "a-name-too-long-for-it"), "not the name of an interface"),
    (("add", "--bridge", "docker0;reboot"), "not the name of an interface"),
    (("add", "--bridge", "docker0\nlo"), "a line break"),
    (("add", "--bridge"), "needs a value"),
    (("add", "--iptables", "rm"), "not a name of it"),
    (("add", "--source", "172.17.0.9"), "not an option of add"),
    (("add", "--bridge=docker0"), "write the value as a word of its own"),
    (("add", "--except", "172.17.0.9"), "not an option of add"),
    (("status", "--to", ":1"), "not an option of status"),
    (("remove", "--all", "--bridge", "docker0"), "takes every hook"),
    (("guard", "on"), "not a command"),
])
def test_invalid_arguments_are_one_line_and_change_nothing(host, arguments, complaint):
    refused = host.hook(*arguments, check=False)
    assert refused.returncode == 2
    assert complaint in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert METADATA not in routing(host)


def test_ten_hooks_added_at_once_are_all_in_place(host):
    for n in range(10):
        host.bridge(f"br-{n}", f"172.31.{n}.1/24")
    with contextlib.ExitStack() as servers:
        for n in range(10):
            servers.callback(StandIn(host.ec2, f"172.31.{n}.1", name=f"role-{n}").close)
        with concurrent.futures.ThreadPoolExecutor(10) as operators, named("ec2-role"):
            list(operators.map(lambda n: host.hook("add", "--bridge", f"br-{n}"), range(10)))
        status = host.hook("status").stdout.splitlines()
        assert len(status) == 11 and status[-1] == "ok: all hooks are in place, and the guard is on"
        for n in (0, 4, 9):
            box = host.container(f"br-{n}", f"172.31.{n}.2/24", f"172.31.{n}.1")
            assert role_seen_by(box) == f"role-{n}"
            for other in set(range(10)) - {n}:
                assert_refused(box, address=f"172.31.{other}.1", port=4567)


def test_4_times_the_hooks_take_under_8_times_the_cpu_time(host):
    """Checks a ratio, because machines differ and may be busy; scripts/bench measures how long each command takes."""
    def seconds(*arguments):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        host.hook(*arguments, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def with_hooks(number):
        commands = "\n".join(f"{HOOK} add --bridge br-{n}" for n in range(1, number))
        host.ec2.run("sh", "-euc", commands, env=host.environment)
        return {command: seconds(*command.split()) for command in ("add --bridge br-0", "status", "remove --all")}

    for n in range(40):
        host.bridge(f"br-{n}", f"172.31.{n}.1/24")
    of_10, of_40 = with_hooks(10), with_hooks(40)
    assert all(of_40[command] < 8 * of_10[command] for command in of_10), (of_10, of_40)


@pytest.mark.parametrize("command", ["guard status", "hook status", "network remove none"])
def test_no_other_user_can_run_it_or_hold_the_lock(host, command):
    """Mounts an empty /run, because the machine's own may have the lock of an earlier test. Every user may create files in the
    empty /run: if the script creates no lock there, this user can, and the test fails."""
    script = HOOK.with_name(f"ec2-role-{command.split()[0]}")
    as_other = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    refused = host.run(*as_other, "sh", "-s", *command.split()[1:], input=script.read_text(), check=False)
    assert refused.returncode == 1 and "must be root" in refused.stderr and refused.stderr.count("\n") == 1
    lock = f"/run/{script.name}.lock"
    asked = f"""mount -t tmpfs tmpfs /run
umask 0
{script} {command.partition(' ')[2]} || true
exec {' '.join(as_other)} flock --nonblock {lock} true"""
    held = host.run("unshare", "--mount", "sh", "-euc", asked, check=False)
    assert held.returncode != 0 and f"{lock}: Permission denied" in held.stderr


def test_flock_of_busybox_is_reported(host, tmp_path):
    refused = host.run("env", with_busybox_flock(tmp_path), HOOK, "add", check=False)
    assert refused.returncode == 1 and "ip or flock: not that of iproute2 or util-linux" in refused.stderr and refused.stderr.count("\n") == 1


def test_lock_that_cannot_be_written_is_reported(host):
    """The exit status is 1, because 2 would end ec2-role@.service for good."""
    host.within = ("unshare", "--mount", "sh", "-euc", 'mount -t tmpfs -o ro tmpfs /run; exec "$@"', "sh")
    failed = host.hook("add", check=False)
    assert failed.returncode == 1 and failed.stderr.endswith("ec2-role-hook: /run/ec2-role-hook.lock: cannot be locked; the reason is above; nothing was changed\n")
    assert METADATA not in routing(host)


# Programs with which the hook reads, sorts and writes rules.
@pytest.mark.parametrize("failing", ["awk", "cut", "iptables-save", "ip6tables-save", "iptables-restore"])
def test_failure_of_any_command_keeps_the_other_hooks(host, server, tmp_path, failing):
    """Makes each run of the program fail in turn, as it could for lack of memory."""
    host.bridge("br-other", "172.31.0.1/24")
    with contextlib.closing(StandIn(host.ec2, "172.31.0.1")), named("ec2-role"):
        host.hook("add", "--bridge", "br-other")
        before = rules(host)
        runs, environment = tmp_path / "runs", host.environment
        path = first_in_path(tmp_path, failing, f'echo >>{runs}; [ "$(wc -l <{runs})" != "$FAILS" ] || exit 2\nexec {shutil.which(failing)} "$@"')
        host.environment = {**environment, "PATH": path}
        for run in itertools.count(1):
            runs.write_text("")
            host.environment["FAILS"] = str(run)
            added = host.hook("add", check=False)
            if len(runs.read_text()) < run:
                break
            hooked = [line for line in rules(host) if "-i br-other" in line]
            assert hooked == [line for line in before if "-i br-other" in line], run
            assert added.returncode == 0 or added.returncode in (1, 4) and "ec2-role-hook: " in added.stderr
            assert added.returncode != 0 or "-i docker0" in "".join(rules(host))
            host.hook("remove")
        assert run > 1 and added.returncode == 0


@pytest.mark.parametrize("verb", ["add", "remove"])
def test_add_and_remove_overcome_a_flush_before_their_write(host, server, tmp_path, verb):
    host.bridge("br-other", "172.31.0.1/24")
    with contextlib.closing(StandIn(host.ec2, "172.31.0.1")), named("ec2-role"):
        for bridge in ("br-other", "docker0"):
            host.hook("add", "--bridge", bridge)
        before, environment = rules(host), host.environment
        # Give `add` another port: it writes nothing if its rules are in place already.
        command = ("add", "--to", ":4568") if verb == "add" else ("remove",)
        path = first_in_path(tmp_path, "iptables-restore", f'[ -e {tmp_path}/flushed ] || {{ touch {tmp_path}/flushed; nft flush ruleset; }}\n'
                                                           f'exec {shutil.which("iptables-restore")} "$@"')
        host.environment = {**environment, "PATH": path}
        host.hook(*command)
        host.environment = environment
        after = rules(host)
        assert [line for line in after if "-i br-other" in line] == [line for line in before if "-i br-other" in line]
        assert ("-i docker0" in "".join(after)) == (verb == "add")


def test_add_reports_a_held_iptables_lock_after_its_wait(host, server, tmp_path):
    """Each wait is shortened to 1 s. The test uses iptables-legacy, because iptables-nft has no lock."""
    for name in ("iptables-legacy-restore", "ip6tables-legacy-restore"):
        path = first_in_path(tmp_path, name, f'exec {shutil.which(name)} $(echo "$@" | sed s/--wait=[0-9]*/--wait=1/)')
    host.environment = {**host.environment, "PATH": path}
    # Hold the lock in a mount namespace with a /run of its own, so that no other program on this machine waits for it.
    host.within = ("unshare", "--mount", "sh", "-euc", 'mount -t tmpfs tmpfs /run; exec 7>/run/xtables.lock; flock 7; exec "$@"', "sh")
    with named("ec2-role"):
        failed = host.hook("add", "--iptables", "iptables-legacy", check=False)
    assert failed.returncode == 1 and failed.stderr.count("holding the xtables lock. Stopped waiting after 1s.") == 2, failed.stderr
    assert "a lock: end the program that holds it, and run this again); the hook may not be in place, the guard is on" in failed.stderr


def test_hook_ignores_a_network_with_the_services_address(instance):
    """Plays a Compose network that contains 169.254.169.254. br_netfilter passes the packets between its containers to
    PREROUTING, where the hook must not redirect them."""
    instance.ec2.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1")
    instance.hook("add", "--bridge", "br-+", "--missing-ok")
    instance.ec2.run("ip", "link", "add", "br-imds", "type", "bridge")
    instance.ec2.run("ip", "link", "set", "br-imds", "up")
    service, client = (instance.container("br-imds", f"169.254.169.{n}/24", "169.254.169.1") for n in (254, 2))
    server = StandIn(service, METADATA, 80, "compose")
    try:
        assert role_seen_by(client) == "compose"
        assert role_seen_by(instance.ec2) == HOST_ROLE
    finally:
        server.close()


def test_bridge_with_a_link_local_subnet_is_redirected(instance):
    """Some hosts give docker0 a link-local subnet ("bip" in daemon.json), because no VPC can have the same one."""
    instance.bridge("docker0", "169.254.123.1/24")
    box = instance.container("docker0", "169.254.123.2/24", "169.254.123.1")
    server = StandIn(instance.ec2, "169.254.123.1")
    try:
        with named("ec2-role"):
            instance.hook("add")
        assert role_seen_by(box) == "stand-in"
    finally:
        server.close()


def test_container_endpoint_is_redirected_only_with_the_option(host, server):
    host.hook("add")
    with pytest.raises(OSError):
        get(host.box, "/v2/credentials/x", address="169.254.170.2", timeout=0.5)
    host.hook("add", "--container-endpoint")
    assert get(host.box, "/v2/credentials/x", address="169.254.170.2") == (200, "stand-in")
    assert "in place already" in host.hook("add", "--container-endpoint").stderr
    assert role_seen_by(host.box) == "stand-in"
    assert host.hook("status").stdout.startswith("ok: ")
    host.hook("add")
    with pytest.raises(OSError):
        get(host.box, "/v2/credentials/x", address="169.254.170.2", timeout=0.5)


@pytest.mark.parametrize("command", [
    # The rule of the ECS agent's set-up, with either variant of iptables.
    *(f"{program} -t nat -A PREROUTING -p tcp -d 169.254.170.2 --dport 80 -j DNAT --to-destination 127.0.0.1:51679"
      for program in ("iptables-nft", "iptables-legacy")),
    "ip address add 169.254.170.2/32 dev docker0",
    "ip route add 169.254.170.2 dev docker0",
])
def test_container_endpoint_is_refused_if_already_in_use(host, command):
    host.ec2.run(*command.split())
    refused = host.hook("add", "--container-endpoint", check=False)
    assert refused.returncode == 1 and re.search("169.254.170.2: (a rule of another's|this host itself)", refused.stderr)
    assert METADATA not in routing(host)
    host.hook("add")
