"""Repeats on a real Docker Engine what the slides of the 2015 talk show, which gave the idea for ec2-role: containers get the
host's role, then the assumed role; finally the server itself runs in a container."""

import re

import pytest

from asking import role_seen_by
from containers import boto3, document, role_name, start_client
from instance import wait_until
from real_metadata import HOST_ROLE, LIST
from sts import ENDPOINT, arn

pytestmark = pytest.mark.usefixtures("client_image", "aws")
OPTIONS = ("--env", f"EC2_ROLE_ENDPOINT_URL={ENDPOINT}", "--env", "EC2_ROLE_ROLE_NAME=temp")


def is_session_of(role, identity):
    return re.fullmatch(rf"arn:aws:sts::\d{{12}}:assumed-role/{role}/ec2-role-i-0123456789abcdef0", identity)


def test_container_gets_the_hosts_role_without_the_hook(docker, aws):
    container = start_client(docker)
    assert role_name(docker, container) == HOST_ROLE
    assert ":assumed-role/host-role/" in aws.whose(document(docker, container))


def test_container_gets_the_role_with_the_hook_and_is_logged(docker, aws, start_server):
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
    assert role_seen_by(docker.instance.ec2) == HOST_ROLE


def test_64_sdk_clients_in_one_container_all_get_the_role(docker, start_server):
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


def test_server_in_a_container_works_with_a_hop_limit_of_1(docker, aws, ec2_role_image):
    """The server is on the host's network: responses with a hop limit of 1 reach it, and the hook does not redirect its requests.
    The talk's server was on a bridge and needed an exception in the rules."""
    docker.instance.real_metadata.ip_ttl = 1
    server = docker.run("--network", "host", *OPTIONS, "--env", "EC2_ROLE_LISTEN=172.17.0.1:4567", "ec2-role", arn("exc_web"))
    docker.instance.hook("add")
    container = start_client(docker)
    wait_until(lambda: "credential of" in docker.log(server), what="the first credential")
    assert role_name(docker, container) == "temp"
    assert is_session_of("exc_web", aws.whose(document(docker, container)))
