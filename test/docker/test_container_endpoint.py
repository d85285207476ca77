"""The container form of the credential at 169.254.170.2, through the hook's --container-endpoint."""

import pytest

from containers import CURL_REFUSED, WHO_AM_I, curl, start_client
from instance import METADATA
from real_metadata import LIST

pytestmark = pytest.mark.usefixtures("client_image", "aws")


@pytest.fixture
def token(tmp_path):
    token = tmp_path / "token"
    token.write_text("made-up-token")
    token.chmod(0o600)
    return token


def test_the_container_form_serves_an_sdk_only_with_the_token(docker, start_server, token):
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


@pytest.mark.parametrize("option, status", [((), "200"), (("--same-network",), "403")])
def test_a_container_is_served_at_an_address_of_the_bridge(docker, start_server, token, option, status):
    docker.instance.guard("on")
    change = lambda verb: docker.instance.run("ip", "address", verb, "169.254.170.2/32", "dev", "docker0")
    change("add")
    try:
        start_server("exc_web", "169.254.170.2:80", "--container-token-file", str(token), *option)
        answer, _ = curl(docker, start_client(docker), "http://169.254.170.2/v2/credentials/exc_web",
                         "--header", "Authorization: made-up-token", "--write-out", "%{http_code}")
        assert answer.endswith(status)
    finally:
        change("del")
