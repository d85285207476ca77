"""The talk's slides, in order, on a real Docker Engine: (1) the host's role, (2) the assumed one, (3) the server in a container."""

import re

import pytest

from containers import boto3, document, metadata, role_name, start_client
from instance import METADATA, wait_until
from real_metadata import HOST_ROLE, LIST
from sts import ENDPOINT, arn

pytestmark = pytest.mark.usefixtures("client_image", "aws")
OPTIONS = ("--env", f"EC2_ROLE_ENDPOINT_URL={ENDPOINT}", "--env", "EC2_ROLE_ROLE_NAME=temp")


def is_session_of(role, identity):
    return re.fullmatch(rf"arn:aws:sts::\d{{12}}:assumed-role/{role}/ec2-role-i-0123456789abcdef0", identity)


def test_1_without_the_hook_a_container_gets_the_hosts_role(docker, aws):
    container = start_client(docker)
    assert role_name(docker, container) == HOST_ROLE
    assert ":assumed-role/host-role/" in aws.whose(document(docker, container))


def test_2_with_the_hook_it_gets_the_assumed_role_and_the_access_log_has_its_line(docker, aws, start_server):
    server = start_server("exc_web", "172.17.0.1:4567", "--role-name", "temp")
    docker.instance.hook("add")
    container = start_client(docker)
    assert role_name(docker, container) == "temp"
    credential = document(docker, container)
    assert credential["Code"] == "Success" and is_session_of("exc_web", aws.whose(credential))
    address = docker.inspect(container, "{{.NetworkSettings.IPAddress}}")
    line = server.wait_for(f"GET {LIST}temp ")
    assert line.startswith(f"{address} - - [") and '" 200 ' in line
    # The host's own requests still reach the real service.
    with docker.instance.ec2:
        assert docker.instance.run("curl", "-s", f"http://{METADATA}{LIST}").stdout == HOST_ROLE


def test_2_64_sdk_clients_at_once_in_one_container_all_get_it(docker, start_server):
    start_server("exc_web")
    docker.instance.hook("add")
    code = """
from concurrent.futures import ThreadPoolExecutor
from botocore.utils import InstanceMetadataFetcher
with ThreadPoolExecutor(64) as clients:
    found = list(clients.map(lambda _: InstanceMetadataFetcher(num_attempts=1).retrieve_iam_role_credentials(), range(64)))
print(sum(credential.get("role_name") == "exc_web" for credential in found))
"""
    assert boto3(docker, start_client(docker), code).stdout == "64\n"


def test_3_the_server_in_a_container_on_the_hosts_network_also_when_the_real_answers_live_one_hop(
        docker, aws, ec2_role_image):
    docker.instance.real_metadata.ip_ttl = 1
    server = docker.run("--network", "host", *OPTIONS, "--env", "EC2_ROLE_LISTEN=172.17.0.1:4567", "ec2-role", arn("exc_web"))
    docker.instance.hook("add")
    container = start_client(docker)
    wait_for_log(docker, server, "credential of")
    assert role_name(docker, container) == "temp"
    assert is_session_of("exc_web", aws.whose(document(docker, container)))


@pytest.fixture
def network(docker):
    docker.docker("network", "create", "--subnet", "172.30.0.0/24", "--ip-range", "172.30.0.0/25",
                  "--opt", "com.docker.network.bridge.name=br-one", "one")
    return ("--network", "one")


def start_bridged_server(docker, network):
    server = docker.run(*network, "--ip", "172.30.0.200", *OPTIONS, "ec2-role", arn("exc_web"))
    docker.instance.hook("add", "--bridge", "br-one", "--to", "172.30.0.200:4567", "--except", "172.30.0.200")
    return server


def test_3_the_server_in_a_container_on_the_bridge(docker, aws, ec2_role_image, network):
    server = start_bridged_server(docker, network)
    container = start_client(docker, *network)
    wait_for_log(docker, server, "credential of")
    assert is_session_of("exc_web", aws.whose(document(docker, container)))
    # Also when it has to ask again, by the exception alone.
    docker.docker("restart", server)
    docker.instance.hook("add", "--bridge", "br-one", "--to", "172.30.0.200:4567", "--except", "172.30.0.200")
    wait_until(lambda: role_name(docker, container) == "temp", what="the role after a restart")


def test_3_on_a_bridge_answers_that_live_one_hop_do_not_reach_it_and_its_neighbours_get_an_error(
        docker, aws, ec2_role_image, network):
    docker.instance.real_metadata.ip_ttl = 1
    server = start_bridged_server(docker, network)
    container = start_client(docker, *network)
    wait_for_log(docker, server, "hop limit 1?")
    body, _ = metadata(docker, container, LIST, "--write-out", "%{http_code}")
    assert body.endswith("500") and HOST_ROLE not in body


def wait_for_log(docker, container, text):
    try:
        wait_until(lambda: text in docker.log(container), seconds=20)
    except AssertionError:
        raise AssertionError(f"no {text!r} in:\n{docker.log(container)}") from None
