"""The hook beside other programs' rules: those that take what is meant for ours, and those of an ordinary host."""

import concurrent.futures

import pytest

from asking import role_or_none, role_seen_by
from instance import firewall
from stand_in import StandIn, named


@pytest.fixture
def unhooked(host, server):
    """docker0 and br-other, each with a server and a container."""
    host.bridge("br-other", "172.31.0.1/24")
    host.other = host.container("br-other", "172.31.0.2/24", "172.31.0.1")
    others_server = StandIn(host.ec2, "172.31.0.1", name="other")
    with named("ec2-role"):
        yield host
    others_server.close()


@pytest.fixture
def two(unhooked):
    hook_both(unhooked)
    return unhooked


def hook_both(host, *options):
    for bridge in ("docker0", "br-other"):
        host.hook("add", "--bridge", bridge, *options)


def shadows(host, *arguments):
    status = host.hook("status", *arguments, check=False)
    assert status.returncode == (1 if "SHADOWED" in status.stdout else 0), status.stdout
    return [line.strip() for line in status.stdout.splitlines() if "SHADOWED" in line]


def each_has_its_own_role_and_no_other(host):
    for box, own, others_address in ((host.box, "stand-in", "172.31.0.1"), (host.other, "other", "172.17.0.1")):
        assert role_seen_by(box) == own
        assert role_or_none(box, address=others_address, port=4567) is None


SHADOWING = [
    "-I INPUT -i docker0 -j ACCEPT",
    "-I INPUT -i docker0 -j DROP",
    "-I INPUT -p tcp --dport 4000:5000 -j ACCEPT",
    "-I INPUT -p tcp -m multiport --dports 22,4567 -j REJECT",
    "-I INPUT -s 172.17.0.0/16 -j ACCEPT",
    "-t nat -I PREROUTING -p tcp -d 169.254.0.0/16 --dport 80 -j DNAT --to-destination 172.31.0.1:80",
    "-t nat -I PREROUTING -i docker+ -j ACCEPT",
]


@pytest.mark.parametrize("rule", SHADOWING)
@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_a_rule_put_above_ours_that_takes_what_is_meant_for_them_is_said_and_add_puts_ours_first(unhooked, program, rule):
    variant = ("--iptables", program)
    hook_both(unhooked, *variant)
    assert shadows(unhooked, *variant) == []
    once = firewall(unhooked, program).count("\n")
    unhooked.ec2.run(program, *rule.split())
    assert shadows(unhooked, *variant)
    assert "in place already" not in unhooked.hook("add", *variant).stderr
    assert shadows(unhooked, *variant) == []
    each_has_its_own_role_and_no_other(unhooked)
    assert firewall(unhooked, program).count("\n") == once + 1
    assert "in place already" in unhooked.hook("add", *variant).stderr


def test_a_rule_in_a_chain_that_is_jumped_to_is_found_too(two):
    for rule in ("-N site", "-A site -p udp -j ACCEPT", "-A site -i docker0 -j ACCEPT", "-I INPUT -j site"):
        two.ec2.run("iptables", *rule.split())
    assert shadows(two, "--bridge", "docker0") == ["SHADOWED by iptables -w -t filter -A site -i docker0 -j ACCEPT"]
    two.hook("add")
    assert shadows(two) == []
    each_has_its_own_role_and_no_other(two)


HARMLESS = [
    "-I INPUT -i lo -j ACCEPT",
    "-I INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-I INPUT -m state --state INVALID -j DROP",
    "-I INPUT -p udp --dport 53 -j ACCEPT",
    "-I INPUT -p tcp --dport 22 -j ACCEPT",
    "-I INPUT -p tcp -m multiport --dports 22,80:90 -j DROP",
    "-I INPUT -j LOG",
    '-I INPUT -p tcp --dport 22 -m comment --comment "once: -j ACCEPT for all" -j ACCEPT',
    "-I INPUT -i virbr0 -p tcp --dport 53 -j ACCEPT",
    "-t nat -I PREROUTING -m addrtype --dst-type LOCAL -j DNAT --to-destination 172.17.0.2",
    "-t nat -I PREROUTING -p tcp --dport 443 -j REDIRECT --to-ports 8443",
    "-t nat -I PREROUTING -d 10.0.0.0/8 -j ACCEPT",
    "-t nat -I PREROUTING -i eth0 -d 10.77.0.2 -p tcp --dport 80 -j DNAT --to-destination 172.17.0.2",
]


def test_rules_of_an_ordinary_host_above_ours_are_not_said(two):
    for chain in ("f2b-sshd", "ufw-logging"):
        two.ec2.run("iptables", "-N", chain)
    two.ec2.run("sh", "-euc", "\n".join(f"iptables {rule}" for rule in (
        *HARMLESS,
        "-A f2b-sshd -s 192.0.2.1 -j REJECT", "-A f2b-sshd -j RETURN", "-I INPUT -p tcp -m multiport --dports 22 -j f2b-sshd",
        "-A ufw-logging -j LOG", "-A ufw-logging -j RETURN", "-I INPUT -j ufw-logging")))
    assert shadows(two) == []
    assert "in place already" in two.hook("add").stderr
    each_has_its_own_role_and_no_other(two)


def test_the_other_iptables_that_closes_the_way_is_said_by_add_and_by_status(two):
    two.ec2.run("iptables-legacy", "-P", "INPUT", "DROP")
    assert "SHADOWED by iptables-legacy -w -t filter -P INPUT DROP" in shadows(two)
    assert "SHADOWED by iptables-legacy -w -t filter -P INPUT DROP" in two.hook("add").stderr
    two.ec2.run("iptables-legacy", "-A", "INPUT", "-i", "docker0", "-j", "ACCEPT")
    assert shadows(two, "--bridge", "docker0") == [] and shadows(two, "--bridge", "br-other")
    two.ec2.run("iptables-legacy", "-A", "INPUT", "-i", "br-other", "-j", "ACCEPT")
    assert shadows(two) == []
    each_has_its_own_role_and_no_other(two)


def test_ours_are_put_first_without_a_gap(two):
    """Asked all the time while others put theirs above and add heals it: its own role, and no error."""
    with concurrent.futures.ThreadPoolExecutor(1) as operators:
        def heal():
            for _ in range(5):
                two.ec2.run("iptables", "-I", "INPUT", "-p", "tcp", "--dport", "4567", "-j", "ACCEPT")
                two.hook("add")
        healing = operators.submit(heal)
        seen = set()
        while not healing.done():
            seen.add(role_seen_by(two.box))
        healing.result()
    assert seen == {"stand-in"}


def test_dry_run_prints_what_puts_ours_first(two):
    two.ec2.run("iptables", "-I", "INPUT", "-i", "docker0", "-j", "ACCEPT")
    before = firewall(two)
    printed = two.hook("add", "--dry-run").stdout
    assert firewall(two) == before
    two.ec2.run("sh", "-euc", printed)
    assert shadows(two) == []
    each_has_its_own_role_and_no_other(two)


WRITTEN_ANEW = {
    "iptables-restore of what was before": "iptables-restore < {before}",
    "nft flush ruleset": "nft flush ruleset",
    "iptables -F": "iptables -F",
    "firewall-cmd --reload, as it clears": "for table in nat filter mangle raw; do iptables -t $table -F; ip6tables -t $table -F; done",
}


@pytest.mark.parametrize("how", WRITTEN_ANEW)
def test_while_a_firewall_is_written_anew_nobody_gets_the_hosts_role_or_anothers_and_add_heals(unhooked, tmp_path, how):
    before = tmp_path / "before"
    unhooked.ec2.run("sh", "-euc", "for table in nat mangle filter; do iptables -t $table -N site; done; iptables-save > " + str(before))
    hook_both(unhooked)
    seen = []
    with concurrent.futures.ThreadPoolExecutor(1) as operators:
        anew = operators.submit(unhooked.ec2.run, "sh", "-euc", WRITTEN_ANEW[how].format(before=before))
        done = False
        while not done:
            done = anew.done()
            seen.append((role_or_none(unhooked.box), role_or_none(unhooked.other)))
        anew.result()
    assert {docker0 for docker0, _ in seen} <= {"stand-in", None} and {other for _, other in seen} <= {"other", None}
    assert unhooked.hook("status", check=False).returncode == 1
    hook_both(unhooked)
    unhooked.hook("status")
    each_has_its_own_role_and_no_other(unhooked)


def test_a_program_on_the_port_of_refusals_is_said(host, server):
    host.hook("add")
    on_loopback = StandIn(host.ec2, "127.0.0.1", 1, "loopback")
    host.hook("status")
    on_loopback.close()
    stranger = StandIn(host.ec2, "0.0.0.0", 1, "stranger")
    try:
        status = host.hook("status", check=False)
        assert status.returncode == 1 and "TAKEN    port 1: a program listens there" in status.stdout
        for arguments in (("add",), ("guard", "on")):
            assert "port 1: a program listens there" in host.hook(*arguments).stderr
    finally:
        stranger.close()


def test_no_server_is_put_on_the_port_of_refusals(host):
    refused = host.hook("add", "--to", ":1", check=False)
    assert refused.returncode == 2 and "--to :1: what the guard refuses is sent to port 1; take another" in refused.stderr
