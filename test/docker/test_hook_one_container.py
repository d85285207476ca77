"""One container among others on a bridge: --source, --except, and a server inside a container, by real Docker.
busybox httpd stands where ec2-role would listen."""

import os
import shutil

import pytest

from images import BUSYBOX
from instance import HOOK, METADATA, firewall, wait_until
from real_metadata import HOST_ROLE, LIST
from stand_in import StandIn

SUBNET, RANGE = "172.30.0.0/24", "172.30.0.0/25"
GATEWAY, SERVER, CHOSEN = "172.30.0.1", "172.30.0.200", "172.30.0.201"


def create_network(docker):
    docker.docker("network", "create", "--subnet", SUBNET, "--ip-range", RANGE, "--gateway", GATEWAY,
                  "--opt", "com.docker.network.bridge.name=br-one", "one")


@pytest.fixture
def network(docker):
    create_network(docker)


def container(docker, *options):
    return docker.run("--network", "one", *options, BUSYBOX, "sleep", "600")


def server_in_container(docker, *options):
    page = "latest/meta-data/iam/security-credentials"
    return docker.run("--network", "one", "--ip", SERVER, *options, BUSYBOX, "sh", "-c",
                      f"mkdir -p /www/{page}; printf in-container > /www/{page}/index.html; exec httpd -f -p 4567 -h /www")


def role_seen_by(docker, container, address=METADATA, port=80):
    """The body, or None when the connection is refused."""
    answer = docker.execute(container, "sh", "-c",
                            f"printf 'GET {LIST} HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {address} {port}", check=False)
    assert "timed out" not in answer.stderr
    return answer.stdout.rpartition("\n\n")[2] or None


def test_source_sends_one_container_to_its_own_server_and_goes_before_the_bridges_hook(docker, network):
    instance = docker.instance
    chosen, other = container(docker, "--ip", CHOSEN), container(docker)
    servers = [StandIn(instance.ec2, GATEWAY, 4567, "of-the-bridge"), StandIn(instance.ec2, GATEWAY, 4568, "of-the-one")]
    of_the_one = ("add", "--bridge", "br-one", "--source", CHOSEN, "--to", ":4568")
    of_the_bridge = ("add", "--bridge", "br-one")
    try:
        for order in ((of_the_one, of_the_bridge), (of_the_bridge, of_the_one)):
            for arguments in order:
                instance.hook(*arguments)
            assert role_seen_by(docker, chosen) == "of-the-one"
            assert role_seen_by(docker, other) == "of-the-bridge"
            assert role_seen_by(docker, other, GATEWAY, 4568) is None
            instance.hook("status")
            instance.hook("remove", "--bridge", "br-one", "--source", CHOSEN)
            assert role_seen_by(docker, chosen) == "of-the-bridge"
            instance.hook("remove", "--bridge", "br-one")
        instance.hook(*of_the_one)
        assert role_seen_by(docker, chosen) == "of-the-one"
        assert role_seen_by(docker, other) is None
    finally:
        for server in servers:
            server.close()


@pytest.mark.parametrize("option, address, complaint", [
    ("--source", "172.30.0.5", "within 172.30.0.0/25"),
    ("--source", GATEWAY, "the bridge itself"),
    ("--source", "172.31.0.5", "not an address of br-one's network"),
    ("--except", "172.30.0.5", "within 172.30.0.0/25"),
    ("--except", SERVER, "no running container has this address"),
    ("--to", "172.30.0.5:4567", "within 172.30.0.0/25"),
])
def test_an_address_that_docker_may_give_to_another_is_refused(docker, network, option, address, complaint):
    refused = docker.instance.hook("add", "--bridge", "br-one", option, address, check=False)
    assert refused.returncode == 1 and complaint in refused.stderr
    assert "nat -I" not in firewall(docker.instance) and "--to-destination" not in firewall(docker.instance)


@pytest.mark.parametrize("option", ["--source", "--except"])
def test_on_dockers_own_bridge_no_address_is_fixed(docker, option):
    refused = docker.instance.hook("add", option, "172.17.0.9", check=False)
    assert refused.returncode == 1 and "may give this address to any container of network bridge" in refused.stderr


def test_a_range_that_is_not_set_is_none_also_as_docker_29_prints_it(docker, tmp_path):
    """As a Go value of its own, in words."""
    newer = tmp_path / "docker"
    newer.write_text(f"""#!/bin/bash
for argument; do
    shift
    set -- "$@" "$(printf %s "$argument" | sed 's/{{{{[^{{}}]*\\.IPRange[^{{}}]*}}}}/invalid Prefix/')"
done
exec {shutil.which("docker")} "$@"
""")
    newer.chmod(0o755)
    refused = docker.instance.run("env", f"PATH={tmp_path}:{os.environ['PATH']}", HOOK, "add", "--source", "172.17.0.9", check=False)
    assert refused.returncode == 1 and "may give this address to any container of network bridge" in refused.stderr


def test_a_server_in_a_container_serves_its_neighbours_and_alone_reaches_the_real_service(docker, network):
    server, neighbour = server_in_container(docker), container(docker)
    docker.instance.hook("add", "--bridge", "br-one", "--to", f"{SERVER}:4567", "--except", SERVER)
    assert role_seen_by(docker, neighbour) == "in-container"
    assert role_seen_by(docker, server) == HOST_ROLE
    # Only what the hook sends there: not the neighbour by itself.
    assert role_seen_by(docker, neighbour, SERVER, 4567) is None
    docker.instance.hook("status")
    # Docker puts the rules of a bridge that it makes anew before all others in FORWARD.
    docker.docker("rm", "--force", server, neighbour)
    docker.docker("network", "rm", "one")
    create_network(docker)
    server, neighbour = server_in_container(docker), container(docker)
    assert role_seen_by(docker, neighbour) == "in-container"
    assert role_seen_by(docker, neighbour, SERVER, 4567) is None


def test_a_stopped_servers_address_taken_by_another_container_never_shows_the_hosts_role(docker, network):
    server = server_in_container(docker)
    docker.instance.hook("add", "--bridge", "br-one", "--to", f"{SERVER}:4567", "--except", SERVER)
    assert role_seen_by(docker, server) == HOST_ROLE
    docker.docker("rm", "--force", server)
    taker = container(docker, "--ip", SERVER)
    assert role_seen_by(docker, taker) is None
    status = docker.instance.hook("status", check=False)
    assert status.returncode == 1 and "MISSING" in status.stdout and "physdev" in status.stdout


def test_an_excepted_server_started_anew_needs_add_again(docker, network):
    server = server_in_container(docker)
    add = ("add", "--bridge", "br-one", "--to", f"{SERVER}:4567", "--except", SERVER)
    docker.instance.hook(*add)
    docker.docker("restart", "--time", "0", server)
    assert role_seen_by(docker, server) is None
    assert docker.instance.hook("status", check=False).returncode == 1
    docker.instance.hook(*add)
    docker.instance.hook("status")
    wait_until(lambda: role_seen_by(docker, server) == HOST_ROLE, what="the exception")


def test_a_neighbour_that_forges_the_excepted_address_does_not_reach_the_real_service(docker, network):
    """With NET_ADMIN even: it takes the server's very address beside its own."""
    server_in_container(docker)
    forger = container(docker, "--cap-add", "NET_ADMIN")
    docker.instance.hook("add", "--bridge", "br-one", "--to", f"{SERVER}:4567", "--except", SERVER)
    seen = len(docker.instance.real_metadata.requests)
    docker.execute(forger, "ip", "address", "add", f"{SERVER}/32", "dev", "eth0")
    docker.execute(forger, "ip", "route", "add", METADATA, "via", GATEWAY, "src", SERVER)
    docker.execute(forger, "sh", "-c", f"printf 'GET {LIST} HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {METADATA} 80", check=False)
    assert len(docker.instance.real_metadata.requests) == seen


def test_a_server_in_a_container_needs_the_bridges_traffic_to_pass_iptables_and_add_says_so(docker, network):
    server_in_container(docker)
    setting = "net.bridge.bridge-nf-call-iptables"
    docker.instance.ec2.run("sysctl", "-qw", f"{setting}=0")
    try:
        refused = docker.instance.hook("add", "--bridge", "br-one", "--to", f"{SERVER}:4567", check=False)
        assert refused.returncode == 1 and f"sysctl -w {setting}=1" in refused.stderr
    finally:
        docker.instance.ec2.run("sysctl", "-qw", f"{setting}=1")
