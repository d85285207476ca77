"""A network that has the address 169.254.169.254, for clients that have this address compiled in; it needs no iptables."""

import pytest

from asking import role_seen_by
from containers import WHO_AM_I, boto3, role_name, start_client
from instance import METADATA, wait_until
from real_metadata import HOST_ROLE
from sts import ENDPOINT, arn

pytestmark = pytest.mark.usefixtures("client_image", "ec2_role_image", "aws")


@pytest.mark.parametrize("beside_the_hook", [False, True])
def test_an_sdk_with_nothing_configured_gets_the_role(docker, beside_the_hook):
    if beside_the_hook:
        docker.instance.hook("add")
        docker.instance.hook("add", "--bridge", "br-+", "--missing-ok")
    docker.docker("network", "create", "--internal", "--opt", "com.docker.network.bridge.inhibit_ipv4=true",
                  "--subnet", "169.254.169.0/24", "imds")
    docker.docker("network", "create", "outside")
    credential = docker.instance.real_metadata.credential
    server = docker.docker(
        "create", "--network", "imds", "--ip", METADATA, "--env", "EC2_ROLE_LISTEN=0.0.0.0:80", "--env", f"EC2_ROLE_ENDPOINT_URL={ENDPOINT}",
        "--env", f"AWS_ACCESS_KEY_ID={credential['AccessKeyId']}", "--env", f"AWS_SECRET_ACCESS_KEY={credential['SecretAccessKey']}",
        "--env", f"AWS_SESSION_TOKEN={credential['Token']}", "ec2-role", arn("exc_web")).stdout.strip()
    docker.docker("network", "connect", "outside", server)
    docker.docker("start", server)
    client = start_client(docker, "--network", "outside")
    docker.docker("network", "connect", "imds", client)
    wait_until(lambda: "credential of" in docker.log(server), what="the first credential")
    assert role_name(docker, client) == "exc_web"
    identity = boto3(docker, client, WHO_AM_I)
    assert ":assumed-role/exc_web/" in identity.stdout, identity.stderr
    # The host's own requests still reach the real service.
    assert role_seen_by(docker.instance.ec2) == HOST_ROLE
