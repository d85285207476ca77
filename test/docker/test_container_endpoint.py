"""The container form of the credential at 169.254.170.2, through the hook's --container-endpoint."""

import pytest

from containers import CURL_REFUSED, curl, start_client
from instance import METADATA
from real_metadata import LIST
from sts import ENDPOINT

pytestmark = pytest.mark.usefixtures("client_image", "aws")

WHO_AM_I = f"""
import boto3
print(boto3.client("sts", "us-east-1", endpoint_url="{ENDPOINT}").get_caller_identity()["Arn"])
"""


def test_the_container_form_serves_an_sdk_only_with_the_token(docker, start_server, tmp_path):
    token = tmp_path / "token"
    token.write_text("made-up-token")
    token.chmod(0o600)
    server = start_server("exc_web", "172.17.0.1:4567", "--container-token-file", str(token), "--both-forms")
    docker.instance.hook("add", "--container-endpoint")
    container = start_client(docker)
    variables = ("--env", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/exc_web",
                 "--env", "AWS_CONTAINER_AUTHORIZATION_TOKEN=made-up-token")
    identity = docker.docker("exec", *variables, container, "python3", "-c", WHO_AM_I).stdout
    assert ":assumed-role/exc_web/" in identity
    server.wait_for("GET /v2/credentials/exc_web ")
    without = curl(docker, container, "http://169.254.170.2/v2/credentials/exc_web", "--write-out", "%{http_code}")[0]
    assert without.endswith("401") and "SecretAccessKey" not in without
    # The same hook redirects 169.254.169.254 too. When the server has stopped, connections to 169.254.170.2 are refused.
    assert curl(docker, container, f"http://{METADATA}{LIST}")[0] == "exc_web"
    server.stop()
    assert curl(docker, container, "http://169.254.170.2/v2/credentials/exc_web")[1] == CURL_REFUSED
