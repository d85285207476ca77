"""Every client that reads the container variables finds the role's credential, and sends the container token."""

import json

import pytest

from clients import CLIENTS, client_named
from ec2_role import ROLE_NAME, Ec2Role, fetch_document
from link_local import CONTAINER_CREDENTIALS_ADDRESS, skip_unless_own
from test_clients import assert_has_found

PATH = f"/v2/credentials/{ROLE_NAME}"

@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "token"
    file.write_text("made-up+token/of=our_own")
    file.chmod(0o600)
    return {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(file)}


def clients_that_read(variable):
    clients = [client for client in CLIENTS if variable in client.container_variables]
    return pytest.mark.parametrize("client", clients, ids=str)


@clients_that_read("AWS_CONTAINER_CREDENTIALS_FULL_URI")
def test_client_finds_the_role_by_the_full_uri_on_loopback(client, aws, token_file, tmp_path):
    with serving(aws, token_file) as ec2_role:
        uri = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": ec2_role.endpoint + PATH}
        assert_finds_the_role(client, ec2_role, aws, tmp_path, {**uri, **token_file})


@clients_that_read("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
def test_client_finds_the_role_by_the_relative_uri(client, aws, token_file, tmp_path):
    skip_unless_own(CONTAINER_CREDENTIALS_ADDRESS)
    with serving(aws, token_file, listen=f"{CONTAINER_CREDENTIALS_ADDRESS}:80") as ec2_role:
        uri = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": PATH}
        assert_finds_the_role(client, ec2_role, aws, tmp_path, {**uri, **token_file})


def test_role_name_that_the_sdk_for_cpp_escapes_is_found(aws, token_file, tmp_path):
    pyarrow = client_named("pyarrow")
    name = "a+=,.@_-b"
    with serving(aws, token_file, "--role-name", name) as ec2_role:
        ec2_role.wait_for_credential()
        uri = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{ec2_role.endpoint}/v2/credentials/{name}"}
        result = pyarrow.run(aws, tmp_path, {"AWS_EC2_METADATA_DISABLED": "true", **uri, **token_file})
        assert result.returncode == 0, result.stderr
        assert {asked[1:] for asked in ec2_role.requests()} == {("/v2/credentials/a%2B%3D%2C.%40_-b", 200)}


def serving(aws, token_file, *more, **listen):
    (file,) = token_file.values()
    options = [*more, "--http-tokens", "required", "--container-token-file", file, "--both-forms", "--endpoint-url", aws.endpoint]
    return Ec2Role(*options, environment=aws.host_keys, **listen)


def assert_finds_the_role(client, ec2_role, aws, home, environment):
    ec2_role.wait_for_credential()
    result = client.run(aws, home, {**environment, "AWS_EC2_METADATA_DISABLED": "true"})

    assert {asked for asked in ec2_role.requests() if "credentials" in asked[1]} == {("GET", PATH, 200)}
    assert_has_found(result, json.loads(fetch_document(ec2_role.endpoint)))
