"""A host with the ECS agent on the host's network, its rules for 169.254.170.2, and tasks in bridge mode."""

import pytest

from asking import role_seen_by
from containers import curl, document, role_name, start_client
from real_metadata import HOST_ROLE
from stand_in import StandIn

pytestmark = pytest.mark.usefixtures("client_image", "aws")

AGENT_RULES = [
    ("-t", "nat", "-A", "PREROUTING", "-p", "tcp", "-d", "169.254.170.2", "--dport", "80", "-j", "DNAT", "--to-destination", "127.0.0.1:51679"),
    ("-t", "nat", "-A", "OUTPUT", "-d", "169.254.170.2", "-p", "tcp", "-m", "tcp", "--dport", "80", "-j", "REDIRECT", "--to-ports", "51679"),
]


@pytest.fixture
def agent(docker):
    """Runs a stand-in for the ECS agent's credentials endpoint, with the firewall rules of the agent's set-up. The value is a
    container on the host's network, as the agent is."""
    ec2 = docker.instance.ec2
    ec2.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    for rule in AGENT_RULES:
        ec2.run("iptables", *rule)
    endpoint = StandIn(ec2, "127.0.0.1", 51679, "the agent's credentials")
    yield start_client(docker, "--network", "host")
    endpoint.close()
    for rule in AGENT_RULES:
        ec2.run("iptables", *("-D" if word == "-A" else word for word in rule))
    ec2.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=0")


def test_ecs_agent_keeps_the_hosts_role_and_tasks_get_theirs(docker, aws, agent, start_server):
    def agents_rules():
        return [line for line in docker.instance.ec2.run("iptables", "-t", "nat", "-S").stdout.splitlines() if "169.254.170.2" in line]

    before = agents_rules()
    assert len(before) == 2
    start_server("exc_web")
    task = start_client(docker)
    docker.instance.hook("add")
    assert role_name(docker, agent) == HOST_ROLE
    assert role_name(docker, task) == "exc_web"
    assert ":assumed-role/exc_web/" in aws.whose(document(docker, task))
    assert curl(docker, task, "http://169.254.170.2/v2/credentials/id")[0] == "the agent's credentials"
    assert agents_rules() == before
    taken = docker.instance.hook("add", "--container-endpoint", check=False)
    assert taken.returncode == 1 and "on an ECS host that is the agent's" in taken.stderr
    assert agents_rules() == before
    docker.instance.hook("remove")
    assert agents_rules() == before
    assert curl(docker, task, "http://169.254.170.2/v2/credentials/id")[0] == "the agent's credentials"
    assert role_seen_by(docker.instance.ec2) == HOST_ROLE
