"""Runs ec2-role-network, and looks up the gateways of its networks."""

from instance import REPOSITORY
from sts import ENDPOINT, arn

NETWORK = REPOSITORY / "scripts/ec2-role-network"


def network(docker, *arguments, check=True):
    return docker.instance.run(NETWORK, *arguments, check=check)


def create(docker, role, *options, check=True):
    return network(docker, "create", *options, arn(role), "--", "--endpoint-url", ENDPOINT, check=check)


def gateway_of(docker, name):
    return docker.docker("network", "inspect", name, "--format", "{{(index .IPAM.Config 0).Gateway}}").stdout.strip()
