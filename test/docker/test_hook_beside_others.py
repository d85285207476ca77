"""The hook beside other programs' rules: how status reports them, and what remains of the hook when they replace all rules."""

import concurrent.futures

import pytest

from asking import role_or_none, role_seen_by
from instance import firewall
from readme import OPERATING, command
from stand_in import StandIn, named


@pytest.fixture
def unhooked(host, server):
    """An instance with two bridges, docker0 and br-other, each with a server and a container."""
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


def verdict(host, *arguments):
    """The last line of status, after a check that the exit status agrees with it."""
    status = host.hook("status", *arguments, check=False)
    last = status.stdout.splitlines()[-1]
    assert (status.returncode == 0) == last.startswith("ok: ")
    return last


def each_has_its_own_role_and_no_other(host):
    for box, own, others_address in ((host.box, "stand-in", "172.31.0.1"), (host.other, "other", "172.17.0.1")):
        assert role_seen_by(box) == own
        assert role_or_none(box, address=others_address, port=4567) is None


def test_status_without_a_hook_is_one_line(host):
    status = host.hook("status", check=False)
    assert status.returncode == 4 and status.stdout.startswith("NOT ok: no hook is in place") and status.stdout.count("\n") == 1
    host.guard("on")
    status = host.hook("status", "--bridge", "docker0", check=False)
    assert status.returncode == 1 and status.stdout.startswith("NOT ok: docker0: no hook is in place") and status.stdout.count("\n") == 1
    assert "ec2-role-guard off lifts it" in status.stdout


def test_status_reports_ok_for_one_bridge_and_for_all(two):
    assert verdict(two, "--bridge", "docker0") == "ok: docker0 → 172.17.0.1:4567"
    assert two.hook("status").stdout == (
        "docker0 → 172.17.0.1:4567\nbr-other → 172.31.0.1:4567\nok: all hooks are in place, and the guard is on\n")


def test_status_reports_that_no_server_listens(host):
    host.hook("add")
    assert verdict(host) == "NOT ok: docker0: nobody listens at 172.17.0.1:4567; start ec2-role there"


@pytest.mark.parametrize("rule", [
    "-I INPUT -i docker0 -j ACCEPT",
    "-I INPUT -p tcp --dport 4000:5000 -j DROP",
    "-I INPUT -p tcp -m multiport --dports 22,4567 -j DROP",
    "-I INPUT -p tcp ! --dport 22 -j DROP",
    "-t nat -I PREROUTING -p tcp -d 169.254.0.0/16 --dport 80 -j DNAT --to-destination 172.31.0.1:80",
    "-t raw -I PREROUTING -i docker+ -j ACCEPT",
])
@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_rule_before_the_hook_is_reported_and_add_repairs_it(unhooked, program, rule):
    variant = ("--iptables", program)
    hook_both(unhooked, *variant)
    assert verdict(unhooked, *variant).startswith("ok: ")
    once = firewall(unhooked, program).count("\n")
    unhooked.ec2.run(program, *rule.split(), "-m", "comment", "--comment", "a \x1b[2J\u202e word")
    said = verdict(unhooked, *variant)
    assert "before the hook comes the rule -A " in said and "a [2J word" in said
    assert "in place already" not in unhooked.hook("add", *variant).stderr
    assert verdict(unhooked, *variant).startswith("ok: ")
    each_has_its_own_role_and_no_other(unhooked)
    assert firewall(unhooked, program).count("\n") == once + 1
    assert "in place already" in unhooked.hook("add", *variant).stderr


@pytest.mark.parametrize("rules", [
    ["-I INPUT -p tcp -m multiport --dports 22 -j DROP"],
    ["-t nat -I PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 81"],
    # fail2ban adds these at its first ban, if the ban is for all ports.
    ["-N f2b-recidive", "-A f2b-recidive -s 203.0.113.5/32 -j REJECT", "-A f2b-recidive -j RETURN", "-I INPUT -p tcp -j f2b-recidive"],
    # libvirt, which starts after the hook.
    ["-N LIBVIRT_INP", "-A LIBVIRT_INP -i virbr0 -p udp -m udp --dport 53 -j ACCEPT", "-A LIBVIRT_INP -i virbr0 -p tcp -m tcp --dport 67 -j ACCEPT",
     "-I INPUT -j LIBVIRT_INP"],
    # Docker Swarm, at the first published port.
    ["-t nat -N DOCKER-INGRESS", "-t nat -A DOCKER-INGRESS -p tcp --dport 80 -j DNAT --to-destination 172.18.0.2:80",
     "-t nat -A DOCKER-INGRESS -j RETURN", "-t nat -I PREROUTING -m addrtype --dst-type LOCAL -j DOCKER-INGRESS"],
    # kube-proxy.
    ["-t nat -N KUBE-SERVICES", "-t nat -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp --dport 80 -j DNAT --to-destination 10.0.0.1:6443",
     "-t nat -I PREROUTING -m comment --comment kubernetes -j KUBE-SERVICES"],
    # Tailscale adds these rules when it starts, which is after the hook (addBase4 in its util/linuxfw/iptables_runner.go).
    ["-N ts-input", "-A ts-input -s 100.101.102.103/32 -i lo -j ACCEPT", "-A ts-input -s 100.115.92.0/23 ! -i tailscale0 -j RETURN",
     "-A ts-input -s 100.64.0.0/10 ! -i tailscale0 -j DROP", "-A ts-input -i tailscale0 -j ACCEPT", "-I INPUT -j ts-input"],
    # The ECS agent adds this rule when it starts, which is after Docker.
    ["-I INPUT -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"],
    ["-I INPUT -i wg+ -j ACCEPT", "-I INPUT -s 203.0.113.0/24 -j DROP", "-I INPUT -s 172.18.0.0/15 -d 10.77.0.2 -j ACCEPT"],
    ["-t nat -I PREROUTING -i eth0 -p tcp --dport 80 -j DNAT --to-destination 172.17.0.9:80", "-t nat -I PREROUTING -d 10.0.0.0/8 -j ACCEPT"],
    ["-I INPUT -p icmp -j ACCEPT", "-I INPUT -p udp -j DROP", "-t raw -I PREROUTING -p udp -j CT --notrack", "-t raw -I PREROUTING -i eth0 -j CT --notrack"],
])
@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_rules_of_others_that_cannot_match_may_precede_it(host, server, program, rules):
    host.hook("add", "--iptables", program)
    for rule in rules:
        host.ec2.run(program, *rule.split())
    assert verdict(host, "--iptables", program) == "ok: docker0 → 172.17.0.1:4567"
    assert role_seen_by(host.box) == "stand-in"
    assert "in place already" in host.hook("add", "--iptables", program).stderr


@pytest.mark.parametrize("rules", [
    ["-N bans", "-A bans -s 172.17.0.2/32 -j DROP", "-I INPUT -j bans"],
    ["-N bans", "-A bans ! -s 203.0.113.5/32 -j DROP", "-I INPUT -j bans"],
    ["-N bans", "-A bans -s 160.0.0.0/4 -i d+ -j DROP", "-I INPUT ! -i eth0 -j bans"],
    ["-I INPUT -s 172.17.0.0/30 -d 172.17.0.1 -j DROP"],
    ["-N bans", "-A bans -p tcp --dport 4567 -j DROP", "-N all", "-A all -j bans", "-I INPUT -g all"],
    ["-t nat -N ours", "-t nat -A ours -d 169.254.169.254/32 -j ACCEPT", "-t nat -I PREROUTING -j ours"],
    ["-t nat -N ours", "-t nat -A ours -m addrtype ! --dst-type LOCAL -j ACCEPT", "-t nat -I PREROUTING -j ours"],
    ["-t nat -I PREROUTING -j RETURN"],
])
def test_rules_in_a_chain_before_the_hook_are_reported(host, server, rules):
    host.hook("add")
    for rule in rules:
        host.ec2.run("iptables", *rule.split())
    assert role_or_none(host.box) is None
    assert "before the hook comes the rule" in verdict(host)
    host.hook("add")
    assert verdict(host) == "ok: docker0 → 172.17.0.1:4567"
    assert role_seen_by(host.box) == "stand-in"


def test_only_a_rule_for_the_containers_ipv6_network_is_reported(both_families, server):
    both_families.hook("add")
    both_families.ec2.run("ip6tables", "-I", "INPUT", "-s", "2001:db8::/32", "-j", "DROP")
    assert verdict(both_families) == "ok: docker0 → 172.17.0.1:4567"
    both_families.ec2.run("ip6tables", "-I", "INPUT", "-s", "fd17::/64", "-j", "DROP")
    assert "IPv6, table filter: before the hook comes the rule -A INPUT -s fd17::/64 -j DROP" in verdict(both_families)


def test_a_host_may_have_thousands_of_addresses(host, server):
    """kube-proxy (IPVS) gives the host the address of each service. 9,000 addresses are more than a variable may contain."""
    host.ec2.ip("link add kube-ipvs0 type bridge", *(f"address add 10.96.{n // 250}.{n % 250}/32 dev kube-ipvs0" for n in range(9000)))
    host.hook("add")
    assert verdict(host) == "ok: docker0 → 172.17.0.1:4567"
    host.ec2.run("iptables", "-I", "INPUT", "-s", "172.17.0.0/16", "-j", "DROP")
    assert "before the hook comes the rule -A INPUT -s 172.17.0.0/16 -j DROP" in verdict(host)


def test_add_moves_the_hook_to_the_top_without_a_gap(two):
    """Another program puts rules above the hook's, and `add` moves the hook's back to the top. Meanwhile a container sends
    requests all the time, and must get its own role and no error."""
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


INPUT = "type filter hook input priority 0;"
# Typical closed firewalls: a chain with policy drop, a last rule that rejects, and a drop in prerouting.
CLOSED = {
    "policy": f"chain input {{ {INPUT} policy drop; iifname lo accept; ct state established,related accept; tcp dport 22 accept; }}",
    "last rule": f"chain input {{ {INPUT} iifname lo accept; ct state established,related accept; counter reject; }}",
    "prerouting": "chain before { type filter hook prerouting priority -150; policy drop; iifname != \"docker0\" accept; }",
}
OPENED = ["ct status dnat accept", "iifname docker0 accept", 'iifname "docker*" accept', 'iifname { "br-x", "docker0" } accept', "tcp dport 4567 accept",
          "iif docker0 accept", "tcp dport { 22, 4567, 8080 } accept", "tcp dport { 4567, 80 } ct state new accept"]


@pytest.mark.parametrize("closed", CLOSED)
def test_nft_table_that_drops_redirected_traffic_is_reported(host, server, closed):
    host.hook("add")
    host.ec2.run("nft", f"table inet site {{ {CLOSED[closed]}; }}")
    assert role_or_none(host.box, timeout=0.5) is None
    chain = "before" if closed == "prerouting" else "input"
    assert verdict(host) == (
        f"NOT ok: nftables, table inet site, chain {chain}: drops what is redirected from docker0; add there: ct status dnat accept")


@pytest.mark.parametrize("rule", ["tcp dport { 22, 45670, 14567 } accept", "iif eth0 accept", "iif != docker0 accept"])
def test_nft_table_that_accepts_other_traffic_is_reported(host, server, rule):
    host.hook("add")
    host.ec2.run("nft", f"table inet site {{ {CLOSED['policy']}; }}")
    host.ec2.run("nft", f"add rule inet site input {rule}")
    assert role_or_none(host.box, timeout=0.5) is None
    assert "drops what is redirected from docker0" in verdict(host)


@pytest.mark.parametrize("rule", OPENED)
def test_nft_table_that_accepts_the_traffic_is_not_reported(host, server, rule):
    host.hook("add")
    host.ec2.run("nft", f"table inet site {{ {CLOSED['policy']}; }}")
    host.ec2.run("nft", f"add rule inet site input {rule}")
    assert role_seen_by(host.box) == "stand-in"
    assert verdict(host) == "ok: docker0 → 172.17.0.1:4567"


@pytest.mark.parametrize("table", [
    f"chain input {{ {INPUT} policy accept; ct state invalid drop; }}",
    "chain out { type filter hook output priority 0; policy drop; ct direction reply accept; }",
    "chain forward { type filter hook forward priority 0; policy drop; }",
], ids=["input", "output", "forward"])
def test_nft_table_that_drops_other_traffic_is_not_reported(host, server, table):
    host.hook("add")
    host.ec2.run("nft", f"table inet site {{ {table}; }}")
    assert role_seen_by(host.box) == "stand-in"
    assert verdict(host) == "ok: docker0 → 172.17.0.1:4567"


@pytest.mark.parametrize("program, other", [("iptables-nft", "iptables-legacy"), ("iptables-legacy", "iptables-nft")])
def test_other_iptables_variant_that_drops_is_reported(host, server, program, other):
    host.hook("add", "--iptables", program)
    host.ec2.run(other, "-P", "INPUT", "DROP")
    assert role_or_none(host.box, timeout=0.5) is None
    assert "drops what is redirected from docker0; add there: " in verdict(host, "--iptables", program)
    host.ec2.run(other, "-A", "INPUT", "-i", "docker0", "-j", "ACCEPT")
    assert role_seen_by(host.box) == "stand-in"
    assert verdict(host, "--iptables", program) == "ok: docker0 → 172.17.0.1:4567"


@pytest.mark.parametrize("program, other", [("iptables-nft", "iptables-legacy"), ("iptables-legacy", "iptables-nft")])
def test_hook_of_the_other_iptables_variant_is_reported(host, server, program, other):
    host.hook("add", "--iptables", other)
    said = f"{other} has a hook too, whose rules may match first; ec2-role-hook remove --all --iptables {other}"
    assert said in host.hook("status", "--iptables", program, check=False).stdout
    assert said in host.hook("remove", "--iptables", program).stderr
    assert said in host.hook("add", "--iptables", program).stderr
    assert verdict(host, "--iptables", program) == f"NOT ok: {said}"
    host.hook("remove", "--all", "--iptables", other)
    assert verdict(host, "--iptables", program) == "ok: docker0 → 172.17.0.1:4567"
    assert role_seen_by(host.box) == "stand-in"


@pytest.mark.parametrize("command, table, rule", [
    ("nft 'table ip site { chain before { type filter hook prerouting priority -300; ip daddr 169.254.169.254 drop comment \"a\x1b[2J\"; }; }'",
     "nftables, table ip site, chain before", 'ip daddr 169.254.169.254 drop comment "a[2J"'),
    ("nft 'table ip site { chain before { type nat hook prerouting priority -110; ip daddr 169.254.169.254 tcp dport 80 dnat to 172.17.0.1:9; }; }'",
     "nftables, table ip site, chain before", "ip daddr 169.254.169.254 tcp dport 80 dnat to 172.17.0.1:9"),
    *((f"{program} -t {table} -A PREROUTING -d 169.254.169.254 -j DROP", f"IPv4, table {table}", "-A PREROUTING -d 169.254.169.254/32 -j DROP")
      for program in ("iptables-nft", "iptables-legacy") for table in ("raw", "mangle")),
])
def test_rule_that_takes_requests_before_the_hook_is_reported(host, server, command, table, rule):
    variant = ("--iptables", command.split()[0]) if command.startswith("iptables") else ()
    host.hook("add", *variant)
    host.ec2.run("sh", "-euc", command)
    assert role_or_none(host.box, timeout=0.5) is None
    assert verdict(host, *variant) == f"NOT ok: {table}: before the hook comes the rule {rule}; delete it"


@pytest.mark.parametrize("rule", ["-t raw -A PREROUTING -p tcp -m tcp --dport 80 -j CT --notrack", "-t raw -A PREROUTING -i docker0 -j CT --notrack"])
@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_untracked_requests_are_reported(host, server, program, rule):
    """A packet that is not tracked is not redirected. The place of the rule in the table makes no difference."""
    host.hook("add", "--iptables", program)
    host.ec2.run(program, *rule.split())
    assert role_or_none(host.box, timeout=0.5) is None
    assert verdict(host, "--iptables", program) == f"NOT ok: IPv4, table raw: before the hook comes the rule {rule[7:]}; delete it"


def test_rule_after_the_redirection_is_not_reported(host, server):
    host.hook("add")
    host.ec2.run("nft", "table ip site { chain after { type filter hook prerouting priority -90; ip daddr 169.254.169.254 drop; }; }")
    host.ec2.run("iptables", "-A", "FORWARD", "-d", "169.254.169.254", "-j", "DROP")
    assert role_seen_by(host.box) == "stand-in"
    assert verdict(host) == "ok: docker0 → 172.17.0.1:4567"


WRITTEN_ANEW = {
    "iptables-restore of what was before": "iptables-restore < {before}",
    "nft flush ruleset": "nft flush ruleset",
    "iptables -F": "iptables -F",
    "firewall-cmd --reload, as it clears": "for table in nat filter mangle raw; do iptables -t $table -F; ip6tables -t $table -F; done",
}


@pytest.mark.parametrize("how", WRITTEN_ANEW)
def test_rewritten_firewall_gives_no_container_another_role(unhooked, tmp_path, how):
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
    assert verdict(unhooked).startswith("NOT ok: ")
    hook_both(unhooked)
    assert verdict(unhooked).startswith("ok: ")
    each_has_its_own_role_and_no_other(unhooked)


@pytest.mark.parametrize("family, table, rule", [
    ("ip", "nat", "tcp dport 8080 redirect to :80"),
    ("ip", "filter", "tcp dport 22 meter m { ip saddr limit rate over 5/minute } drop"),
    ("ip6", "filter", "tcp dport 22 meter m { ip6 saddr limit rate over 5/minute } drop"),
])
def test_table_that_only_nft_can_read_is_reported(host, server, family, table, rule):
    """iptables-save leaves out a table that only nft can read. The hook's own rules could be in that table, so every command
    fails."""
    host.hook("add")
    host.run("nft", f"add table {family} {table}; add chain {family} {table} theirs; add rule {family} {table} theirs {rule}")
    for verb in ("add", "status", "remove"):
        said = host.hook(verb, check=False)
        assert said.returncode == 1 and "cannot read this table, in which nft has rules of its own" in said.stderr
    assert role_seen_by(host.box) == "stand-in"
    host.run("nft", "flush", "chain", family, table, "theirs")
    host.run("nft", "delete", "chain", family, table, "theirs")
    assert verdict(host).startswith("ok: ")


ROUTED_ELSEWHERE = ("NOT ok: docker0: ec2-role's answers are routed elsewhere: 172.17.0.2 from 172.17.0.1 dev wg0 table {}; "
                    "let no rule (ip rule) precede its subnet's route")


@pytest.mark.parametrize("rule", ["from 172.17.0.0/16 lookup 200", "lookup 200"])
def test_rule_that_routes_the_answers_elsewhere_is_reported(host, server, rule):
    """A rule that routes a bridge's containers into a VPN also matches ec2-role's responses from the bridge's address."""
    host.hook("add")
    host.bridge("wg0", "10.9.9.1/32")
    host.ec2.run("ip", "route", "add", "172.16.0.0/12", "dev", "wg0", "table", "200")
    host.ec2.run("ip", "rule", "add", "pref", "100", *rule.split())
    assert role_or_none(host.box) is None
    assert verdict(host) == ROUTED_ELSEWHERE.format("200")
    host.ec2.run("ip", "route", "add", "172.17.0.0/16", "dev", "docker0", "table", "200")
    assert role_seen_by(host.box) == "stand-in"
    assert verdict(host) == "ok: docker0 → 172.17.0.1:4567"


@pytest.mark.parametrize("address", ["172.17.0.1/32", "172.17.0.1/24"], ids=["no subnet", "no container"])
def test_bridge_without_a_route_to_containers_is_not_reported(instance, address):
    instance.bridge("docker0", address)
    ended = instance.container("docker0", "172.17.0.2/24", "172.17.0.1")
    instance.ec2.run("ip", "link", "delete", ended.port)
    instance.ec2.run("sysctl", "-qw", "net.ipv4.conf.docker0.ignore_routes_with_linkdown=1")
    server = StandIn(instance.ec2, "172.17.0.1")
    try:
        instance.hook("add")
        assert verdict(instance) == "ok: docker0 → 172.17.0.1:4567"
    finally:
        server.close()


def test_containers_are_served_beside_a_wg_quick_tunnel(host, server):
    """The tunnel has the default route. wg-quick adds two rules; the second sends local networks past the tunnel."""
    host.hook("add")
    host.bridge("wg0", "10.9.9.1/32")
    for change in ("route add default dev wg0 table 51820", "rule add not fwmark 51820 table 51820", "rule add table main suppress_prefixlength 0"):
        host.ec2.run("ip", *change.split())
    assert role_or_none(host.box) is None
    assert verdict(host) == ROUTED_ELSEWHERE.format("51820")
    host.run("sh", "-euc", command("PostUp =", OPERATING).removeprefix("PostUp ="))
    assert role_seen_by(host.box) == "stand-in"
    assert "dev wg0" in host.ec2.run("ip", "route", "get", "10.9.8.7").stdout
    assert verdict(host) == "ok: docker0 → 172.17.0.1:4567"
