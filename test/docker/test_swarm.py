"""A node of a Docker Swarm. Its services use the bridge docker_gwbridge for addresses outside their overlay network."""

import pytest

from containers import role_name
from images import CLIENT
from instance import INSTANCE_ADDRESS, wait_until
from real_metadata import HOST_ROLE


@pytest.fixture
def swarm(docker):
    docker.docker("swarm", "init", "--advertise-addr", INSTANCE_ADDRESS)
    docker.docker("network", "create", "--driver", "overlay", "tasks")
    yield docker
    docker.docker("swarm", "leave", "--force")
    wait_until(lambda: not docker.docker("ps", "--quiet").stdout, what="the end of the services")
    docker.docker("network", "rm", "docker_gwbridge")


def start_service(docker, *options):
    """Starts a service and returns its container. Passes the image's id: the engine would look for a name in a registry."""
    image = docker.inspect(CLIENT, "{{.Id}}")
    service = docker.docker("service", "create", "--detach", *options, image, "sleep", "600").stdout.strip()
    label = f"label=com.docker.swarm.service.id={service}"
    return wait_until(lambda: docker.docker("ps", "--quiet", "--filter", label).stdout.strip(), what="the service's container")


@pytest.mark.usefixtures("client_image", "aws")
def test_swarm_services_get_the_role_of_docker_gwbridge(swarm, start_server):
    services = [start_service(swarm, "--network", "tasks"), start_service(swarm, "--publish", "8000:8000"), start_service(swarm)]
    assert {role_name(swarm, service) for service in services} == {HOST_ROLE}
    gateway = swarm.inspect("docker_gwbridge", "{{(index .IPAM.Config 0).Gateway}}")
    start_server("exc_web", f"{gateway}:4567", "--same-network")
    swarm.instance.hook("add", "--bridge", "docker_gwbridge")
    assert [role_name(swarm, service) for service in services] == ["exc_web", "exc_web", None]
