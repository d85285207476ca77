"""Tests ec2-role-guard packet by packet, between bridges and namespaces made with `ip`, without the hook, Docker and ec2-role."""

import os
import shutil
import subprocess

import pytest

from asking import assert_refused, role_or_none, role_seen_by
from instance import GUARD, METADATA, METADATA_IPV6, REPOSITORY, first_in_path, routing, wait_until, with_busybox_flock
from real_metadata import HOST_ROLE

IPV6 = {"address": METADATA_IPV6}
ON = "ec2-role-guard: on: only this host reaches the metadata service; ec2-role-guard off lifts it\n"


def test_container_gets_the_hosts_role_without_the_guard(both_families):
    assert role_seen_by(both_families.box) == role_seen_by(both_families.box, port=443) == HOST_ROLE
    status = both_families.guard("status", check=False)
    assert status.returncode == 1 and "off: 169.254.169.254 is not refused" in status.stderr


def test_guard_refuses_every_port_and_bridges_made_later(both_families):
    host = both_families
    assert host.guard("on").stderr == ON
    assert_refused(host.box)
    # These two refusals may be late, because the kernel limits the rate of the guard's ICMP errors. So check only that the
    # requests get no role.
    assert role_or_none(host.box, port=443) is role_or_none(host.box, **IPV6) is None
    host.bridge("br-later", "172.31.0.1/24")
    assert_refused(host.container("br-later", "172.31.0.2/24", "172.31.0.1"))
    assert role_seen_by(host.ec2) == role_seen_by(host.ec2, **IPV6) == HOST_ROLE
    assert host.guard("status").stderr == ON
    assert "off: containers may have the host's role" in host.guard("off").stderr
    assert role_seen_by(host.box) == role_seen_by(host.box, **IPV6) == HOST_ROLE


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_later_rule_without_a_preference_follows_the_guards(both_families, family):
    """wg-quick adds rules without a preference, and so does an administrator who follows instructions for a second interface."""
    host, where = both_families, {} if family == "-4" else IPV6
    host.guard("on")
    for rule in ("not fwmark 51820 lookup main", "lookup main suppress_prefixlength 0", "iif docker0 lookup main"):
        host.ec2.run("ip", family, "rule", "add", *rule.split())
    assert role_or_none(host.box, **where) is None
    assert role_seen_by(host.ec2, **where) == HOST_ROLE
    assert host.guard("status").stderr == ON


@pytest.mark.parametrize("family, where", [("4", {}), ("6", IPV6)])
@pytest.mark.parametrize("rule", ["iif docker0 lookup main", "fwmark 0x1 lookup main", "ipproto tcp dport 80 lookup main", "goto 32766"])
def test_rule_that_precedes_the_guards_rules_is_reported(both_families, family, where, rule):
    host = both_families
    for program in ("iptables", "ip6tables"):
        host.run(program, "-t", "mangle", "-A", "PREROUTING", "-j", "MARK", "--set-mark", "1")
    host.ec2.run("ip", f"-{family}", "rule", "add", "pref", "0", *rule.split())
    for verb in ("on", "status"):
        said = host.guard(verb, check=False)
        assert said.returncode == 1 and f"the host's role: IPv{family} 0: from all {rule}; delete it" in said.stderr
    assert role_seen_by(host.box, **where) == HOST_ROLE
    host.ec2.run("ip", f"-{family}", "rule", "delete", "pref", "0", *rule.split())
    assert host.guard("status").stderr == ON
    assert role_or_none(host.box, **where) is None


@pytest.mark.parametrize("rule, said", [("to 10.9.9.9 lookup main", False), ("not to 10.9.9.9 lookup main", True), ("to 169.254.0.0/16 lookup main", True)])
def test_only_rules_for_the_services_address_are_reported(host, rule, said):
    host.ec2.run("ip", "rule", "add", "pref", "0", *rule.split())
    on = host.guard("on", check=False)
    assert (on.returncode == 1 and "bypassed" in on.stderr) == said
    assert role_or_none(host.box) == (HOST_ROLE if said else None)


def test_a_rule_before_a_repaired_one_is_reported(host):
    """The kernel puts a new rule behind all rules of the same preference. So a guard rule that `on` restores comes behind a rule
    that another program added."""
    host.guard("on")
    host.ec2.run("ip", "rule", "add", "pref", "0", "fwmark", "0x1", "lookup", "main")
    assert host.guard("status").stderr == ON
    host.ec2.run("ip", "rule", "delete", "pref", "0", "iif", "lo", "goto", "1", "to", METADATA)
    said = host.guard("on", check=False)
    assert said.returncode == 1 and "IPv4 0: from all fwmark 0x1 lookup main; delete it" in said.stderr


@pytest.mark.parametrize("missing", ["pref 0 iif lo goto 1", "pref 0 prohibit", "pref 1 nop"])
def test_on_repairs_a_missing_rule_and_keeps_host_access(host, missing):
    host.guard("on")
    before = routing(host)
    host.ec2.run("ip", "rule", "delete", *missing.split(), "to", METADATA)
    host.guard("on")
    assert routing(host) == before
    assert role_seen_by(host.ec2) == HOST_ROLE
    assert_refused(host.box)


@pytest.mark.parametrize("verb, who, found", [("on", "from 172.17.0.2 iif docker0", "2"), ("off", "", "0")])
def test_no_step_opens_the_way_or_takes_it_from_the_host(host, tmp_path, verb, who, found):
    """Looks up a route after each command that the guard runs: the container's while `on` repairs, the host's own while `off` runs."""
    host.guard("on")
    if verb == "on":
        host.ec2.run("ip", "rule", "delete", "pref", "0", "iif", "lo", "goto", "1", "to", METADATA)
    ip, log = shutil.which("ip"), tmp_path / "log"
    path = first_in_path(tmp_path, "ip", f'{ip} "$@"\nstatus=$?\n{ip} route get {METADATA} {who} >/dev/null 2>&1\necho $? >>{log}\nexit $status')
    host.environment = {**host.environment, "PATH": path}
    host.guard(verb)
    assert set(log.read_text().split()) == {found}


@pytest.mark.parametrize("deleted", [("prohibit",), ("iif lo goto 1", "prohibit")], ids=["first rule", "both"])
def test_on_repairs_the_state_after_a_killed_run(host, deleted):
    host.guard("on")
    before = routing(host)
    host.ec2.run("ip", "rule", "add", "pref", "0", "to", METADATA, "protocol", "kernel", "blackhole")
    for rule in deleted:
        host.ec2.run("ip", "rule", "delete", "pref", "0", *rule.split(), "to", METADATA)
    assert role_or_none(host.box, timeout=0.5) is None
    assert host.guard("on").stderr == ON and routing(host) == before


@pytest.mark.parametrize("lost", [("flush",), ("delete", "pref", "0", "iif", "lo", "goto", "1", "to", METADATA)], ids=["anchor", "pass"])
def test_missing_rule_that_refuses_the_host_is_reported(host, lost):
    host.guard("on")
    host.ec2.run("ip", "rule", *lost)
    host.ec2.run("ip", "rule", "add", "pref", "32766", "lookup", "main")
    assert_refused(host.box)
    status = host.guard("status", check=False)
    assert status.returncode == 1
    assert status.stderr == "ec2-role-guard: incomplete: a rule is missing, so this host itself is refused too: IPv4; ec2-role-guard on\n"
    host.guard("on")
    assert role_seen_by(host.ec2) == HOST_ROLE


def test_guard_needs_iproute2_and_no_iptables(host, tmp_path):
    """It finds ip in /sbin, which is not in the PATH of cron."""
    for program in ("id", "grep", "tr", "sed", "awk", "sh"):
        (tmp_path / program).symlink_to(shutil.which(program))
    for program in ("iptables", "ip6tables", "nft"):
        first_in_path(tmp_path, program, f"echo >{tmp_path}/ran")
    for verb in ("on", "status", "off"):
        host.run("env", f"PATH={tmp_path}", GUARD, verb)
    assert METADATA not in routing(host) and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("verb", ["on", "off", "status"])
def test_busybox_ip_is_refused_and_changes_nothing(host, tmp_path, verb):
    host.guard("on")
    before = routing(host)
    (tmp_path / "ip").symlink_to(shutil.which("busybox"))
    host.environment = {**host.environment, "PATH": f"{tmp_path}:{host.environment['PATH']}"}
    refused = host.guard(verb, check=False)
    assert refused.returncode == 1 and "ip: not that of iproute2" in refused.stderr and refused.stderr.count("\n") == 1
    assert routing(host) == before


def test_guard_turns_on_with_the_flock_of_busybox(host, tmp_path):
    assert host.run("env", with_busybox_flock(tmp_path), GUARD, "on").stderr == ON


def test_guard_turns_on_with_a_closed_stderr(host):
    assert host.run("sh", "-c", f"exec {GUARD} on 2>&-").returncode == 0
    assert_refused(host.box)


@pytest.mark.parametrize("shell", ["dash", "bash --posix"])
def test_guard_works_alike_in_dash_and_bash(host, shell):
    host.guard("on")
    before = routing(host)
    host.guard("off")
    for verb in ("on", "on", "status"):
        assert host.run(*shell.split(), GUARD, verb).stderr == ON
    assert routing(host) == before
    host.run(*shell.split(), GUARD, "off")
    assert METADATA not in routing(host)


def test_off_deletes_its_own_rules_only(host):
    for rule in ("pref 0 to 10.9.9.9 prohibit", "pref 1 to 10.9.9.9 nop", "pref 12 to 169.254.169.254 prohibit"):
        host.ec2.run("ip", "rule", "add", *rule.split())
    before = routing(host)
    host.guard("on")
    host.guard("off")
    assert routing(host) == before


def test_guard_keeps_host_routing_with_strict_rp_filter(host):
    """An instance with two interfaces has a separate routing table for packets from its second address. In strict mode
    (rp_filter=1) the kernel drops the replies if the guard changes this routing."""
    host.ec2.run("ip", "address", "add", "10.77.0.9/24", "dev", "eth0")
    host.ec2.run("ip", "route", "delete", METADATA)
    host.ec2.run("ip", "route", "delete", "default")
    host.ec2.run("ip", "route", "add", "default", "via", "10.77.0.1", "table", "10001")
    host.ec2.run("ip", "rule", "add", "pref", "10001", "from", "10.77.0.9", "lookup", "10001")
    host.ec2.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.eth0.rp_filter=1")
    second = {"source": ("10.77.0.9", 0)}
    assert role_or_none(host.ec2) is None
    assert role_seen_by(host.ec2, **second) == HOST_ROLE
    host.guard("on")
    assert role_seen_by(host.ec2, **second) == HOST_ROLE
    assert_refused(host.box)


@pytest.mark.parametrize("firewall", [
    "iptables -t raw -A PREROUTING -m rpfilter --invert -j DROP; ip6tables -t raw -A PREROUTING -m rpfilter --invert -j DROP",
    "nft 'table inet f { chain p { type filter hook prerouting priority -290; fib saddr . iif oif missing drop; }; }'",
], ids=["iptables", "nft"])
def test_guard_keeps_host_access_with_a_reverse_path_filter(both_families, firewall):
    """A reverse path filter, such as firewalld's for IPv6, looks up the route to a packet's source. The guard's rules must not
    make the filter drop the service's responses to the host."""
    both_families.guard("on")
    both_families.ec2.run("sh", "-euc", firewall)
    assert role_seen_by(both_families.ec2) == role_seen_by(both_families.ec2, **IPV6) == HOST_ROLE


def test_failure_to_turn_on_is_reported(host, tmp_path):
    path = first_in_path(tmp_path, "ip", 'case $* in *"rule add"*prohibit*) echo no >&2; exit 2 ;; esac\nexec /sbin/ip "$@"')
    host.environment = {**host.environment, "PATH": path}
    failed = host.guard("on", check=False)
    assert failed.returncode == 1
    assert failed.stderr == "ec2-role-guard: NOT on: containers may have the host's role: ip -4 rule add to 169.254.169.254 pref 0 prohibit: no\n"


@pytest.mark.parametrize("arguments", [(), ("on", "off"), ("guard",)])
def test_invalid_arguments_change_nothing(host, arguments):
    before = routing(host)
    assert host.guard(*arguments, check=False).returncode == 2
    assert routing(host) == before


def test_guard_survives_a_start_of_systemd_networkd(host):
    """systemd-networkd deletes every foreign policy rule except those of protocol kernel, which the guard's rules have."""
    networkd = "/lib/systemd/systemd-networkd"
    if not os.access(networkd, os.X_OK):
        pytest.skip("no systemd-networkd here")
    host.guard("on")
    host.ec2.run("ip", "rule", "add", "pref", "99", "to", "10.9.9.9", "prohibit")
    # Gives networkd a link to configure. The files in /run/udev tell networkd that udev has initialised the links.
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
    assert host.guard("status").stderr == ON


@pytest.mark.parametrize("name", ["guard", "hook", "network"])
def test_script_that_a_full_disk_cut_off_fails(name, tmp_path):
    """Otherwise, cut off between two functions, it does nothing and exits with 0: its unit is active, and `status` says ok."""
    lines = (REPOSITORY / f"scripts/ec2-role-{name}").read_text().splitlines(keepends=True)
    part = tmp_path / "part"
    for count in range(20, len(lines), 10):
        part.write_text("".join(lines[:count]))
        assert subprocess.run(["sh", "-n", part], stderr=subprocess.DEVNULL).returncode != 0, f"the first {count} lines"
