"""Shows that requests get the host's role in cases that scripts/README.md lists as not covered, and that other users of the host
get both the host's role and ec2-role's, as README.md says."""

import pytest

from containers import role_name, start_client
from real_metadata import HOST_ROLE, LIST

pytestmark = pytest.mark.usefixtures("client_image", "aws")


def test_container_on_the_hosts_network_has_the_hosts_role(docker, start_server):
    start_server("exc_web")
    docker.instance.hook("add")
    assert role_name(docker, start_client(docker, "--network", "host")) == HOST_ROLE


def test_container_on_macvlan_has_the_hosts_role(docker, start_server):
    start_server("exc_web")
    docker.instance.hook("add")
    docker.docker("network", "create", "--driver", "macvlan", "--opt", "parent=eth0", "--subnet", "10.77.0.0/24",
                  "--gateway", "10.77.0.1", "--ip-range", "10.77.0.128/25", "outside")
    assert role_name(docker, start_client(docker, "--network", "outside")) == HOST_ROLE


def test_build_that_adds_a_url_gets_the_hosts_role(docker, start_server, tmp_path):
    """The engine itself fetches the URL of an ADD, on the host's network."""
    start_server("exc_web")
    docker.instance.hook("add")
    (tmp_path / "Dockerfile").write_text(f"FROM scratch\nADD http://169.254.169.254{LIST} /role\n")
    docker.docker("build", "--tag", "fetched", str(tmp_path))
    docker.docker("create", "--name", "fetched", "fetched", "x")
    assert HOST_ROLE in docker.docker("cp", "fetched:/role", "-").stdout


def test_other_users_of_the_host_get_both_roles(docker, start_server):
    start_server("exc_web", "172.17.0.1:4567", "--same-network")
    for url, name in (("http://172.17.0.1:4567", "exc_web"), ("http://169.254.169.254", HOST_ROLE)):
        as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        listed = docker.instance.run(*as_nobody, "curl", "--silent", "--noproxy", "*", f"{url}{LIST}")
        assert listed.stdout == name
