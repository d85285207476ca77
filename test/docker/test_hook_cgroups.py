"""Tests `ec2-role-hook add --cgroup` in a network namespace that plays the host: the role that processes of a cgroup get."""

import os
import pathlib

import pytest

from asking import role_seen_by
from instance import METADATA, METADATA_IPV6, firewall, routing, wait_until
from real_metadata import HOST_ROLE, LIST
from stand_in import StandIn, named

ADDRESSES = (METADATA, METADATA_IPV6)
MOUNTS = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines() if line.split()[2] == "cgroup2"]

pytestmark = pytest.mark.skipif(not MOUNTS and not os.environ.get("CI"), reason="test/docker: cgroup v1 alone here")


class Cgroup:
    def __init__(self, host, name):
        self._host = host
        self.name = name
        self.path = pathlib.Path(MOUNTS[0]) / name

    def role(self, address, child=""):
        """Returns the role that a process of the cgroup, or of a cgroup below it, sees; None if there is no response."""
        asked = self._host.run("sh", "-c", f'mkdir -p {self.path}/{child} && echo $$ >{self.path}/{child}/cgroup.procs && exec curl -sg --max-time 2 "$1"',
                               "sh", f"http://{f'[{address}]' if ':' in address else address}{LIST}", check=False)
        return asked.stdout if asked.returncode == 0 else None

    def roles(self):
        return {self.role(address, child) for address in ADDRESSES for child in ("", "container")}

    def make(self):
        self.path.mkdir()

    def remove(self):
        for directory in (*self.path.glob("*/"), self.path):
            wait_until(lambda: not directory.exists() or not (directory / "cgroup.procs").read_text(), what="the end of its processes")
            if directory.exists():
                directory.rmdir()


@pytest.fixture
def host(both_families):
    servers = [StandIn(both_families.ec2, address, name="exc_web") for address in ("127.0.0.1", "::1")]
    both_families.slice = Cgroup(both_families, f"ec2-role-test-{os.getpid()}.slice")
    both_families.slice.make()
    yield both_families
    both_families.slice.remove()
    for server in servers:
        server.close()


def host_is_untouched(host):
    return {role_seen_by(host.ec2, address=address) for address in ADDRESSES} == {HOST_ROLE}


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_add_redirects_the_cgroup_and_not_the_host(host, program):
    name, variant = host.slice.name, ("--iptables", program)
    assert host.slice.roles() == {HOST_ROLE}
    added = host.hook("add", "--cgroup", name, *variant).stderr.splitlines()[-1]
    assert added == (f"ec2-role-hook: /{name}: 169.254.169.254 is ec2-role at 127.0.0.1:4567; after a flush of nftables, "
                     "or in a cgroup made anew, its processes have the host's role until this command runs again. "
                     "Remove the hook before you save the firewall's rules: a boot cannot restore rules with a cgroup")
    assert host.slice.roles() == {"exc_web"} and host_is_untouched(host)
    assert host.hook("status", *variant).stdout == f"ok: /{name} → 127.0.0.1:4567\n"
    once = firewall(host, program)
    host.hook("add", "--cgroup", f"/{name}", *variant)
    assert firewall(host, program) == once
    host.hook("remove", "--cgroup", name, *variant)
    assert "EC2-ROLE" not in firewall(host, program)
    assert host.slice.roles() == {HOST_ROLE}


@pytest.mark.parametrize("flush, seen", [
    # The hook's rule in the filter table still refuses the requests.
    ("iptables -t nat -F; ip6tables -t nat -F", None),
    ("iptables -F; ip6tables -F", "exc_web"),
    # No rule is left that could refuse the requests: --help warns of this.
    ("nft flush ruleset", HOST_ROLE),
])
def test_only_a_full_flush_gives_a_cgroup_the_hosts_role(host, flush, seen):
    host.hook("add", "--cgroup", host.slice.name)
    host.ec2.run("sh", "-euc", flush)
    assert host.slice.roles() == {seen} and host_is_untouched(host)
    assert host.hook("status", check=False).returncode == 1
    host.hook("add", "--cgroup", host.slice.name)
    assert host.slice.roles() == {"exc_web"}


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_recreated_cgroup_has_the_hosts_role_until_add(host, program):
    name, variant = host.slice.name, ("--iptables", program)
    host.hook("add", "--cgroup", name, *variant)
    assert "in place already" in host.hook("add", "--cgroup", name, *variant).stderr
    host.slice.remove()
    host.slice.make()
    assert host.slice.roles() == {HOST_ROLE}
    assert host.hook("status", *variant, check=False).stdout.startswith("IPv4, table filter: not all rules of the hook are there; run ec2-role-hook add again, with the same options\n")
    host.hook("add", "--cgroup", name, *variant)
    assert host.slice.roles() == {"exc_web"}
    assert host.hook("status", *variant).stdout == f"ok: /{name} → 127.0.0.1:4567\n"


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy"])
def test_rules_saved_with_a_cgroup_need_it_to_be_restored(host, program):
    """`add` and the README say: remove the hook before you save the rules. A boot cannot restore them: no cgroup is there yet."""
    own = "-A INPUT -p tcp -m tcp --dport 2222 -j DROP"
    host.ec2.run(program, *own.split())
    added = host.hook("add", "--cgroup", host.slice.name, "--iptables", program)
    assert "Remove the hook before you save the firewall's rules" in added.stderr
    save = f"{program}-save"
    with_hook = host.ec2.run(save).stdout
    host.hook("remove", "--cgroup", host.slice.name, "--iptables", program)
    without_hook = host.ec2.run(save).stdout
    host.slice.remove()
    host.ec2.run(program, "-F")
    restored = [host.ec2.run(f"{program}-restore", input=saved, check=False).returncode == 0 and own in host.ec2.run(save).stdout
                for saved in (with_hook, without_hook)]
    host.slice.make()
    assert restored == [False, True]


def test_rules_for_other_networks_may_precede_a_cgroups_hook(host):
    """The hook must parse two unusual lines of `ip address`: a DHCP client's address with a metric, a tunnel's with a peer."""
    addresses = (("10.55.0.1/24", "metric", "100"), ("10.56.0.1", "peer", "10.56.0.2/32"))
    for address in addresses:
        host.ec2.run("ip", "address", "add", *address, "dev", "lo")
    host.hook("add", "--cgroup", host.slice.name)
    try:
        for network, verdict in (("203.0.113.0/24", "ok"), ("10.56.0.0/31", "NOT ok")):
            host.ec2.run("iptables", "-I", "INPUT", "-s", network, "-j", "DROP")
            assert host.hook("status", check=False).stdout.startswith(f"{verdict}: ")
    finally:
        for address in addresses:
            host.ec2.run("ip", "address", "delete", *address[:1], "dev", "lo", check=False)


def test_removed_cgroup_does_not_affect_other_hooks(host):
    host.hook("add", "--cgroup", host.slice.name)
    bridges = StandIn(host.ec2, "172.17.0.1", name="docker0")
    try:
        host.slice.remove()
        assert host.hook("status", check=False).stdout.startswith("NOT ok: ")
        with named("ec2-role"):
            host.hook("add")
        assert role_seen_by(host.box) == "docker0"
        assert host.hook("status").stdout == "ok: docker0 → 172.17.0.1:4567\n"
        host.slice.make()
    finally:
        bridges.close()


@pytest.mark.parametrize("path, status, complaint", [
    ("no-such.slice", 1, "--cgroup /no-such.slice: not in "),
    ("/", 2, "not a path below the root"),
    (".", 2, "not a path below the root"),
    ("init.scope/../init.scope", 2, "not a path below the root"),
    ("a b", 2, "not a path below the root"),
    ('a"', 2, "not a path below the root"),
    ("", 2, "not a path below the root"),
])
def test_missing_or_invalid_cgroup_is_reported_in_one_line(host, path, status, complaint):
    before = firewall(host), routing(host)
    said = host.hook("add", "--cgroup", path, check=False)
    assert said.returncode == status and complaint in said.stderr and said.stderr.count("\n") == 1
    assert (firewall(host), routing(host)) == before


def test_a_host_with_cgroup_v1_alone_is_refused(host):
    host.within = ("unshare", "--mount", "sh", "-euc", "".join(f"umount {mount}; " for mount in reversed(MOUNTS)) + 'exec "$@"', "sh")
    before = firewall(host), routing(host)
    said = host.hook("add", "--cgroup", host.slice.name, check=False)
    assert said.returncode == 1 and "this host has cgroup v1 alone" in said.stderr and said.stderr.count("\n") == 1
    assert (firewall(host), routing(host)) == before
