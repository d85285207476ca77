"""Every client finds the role's credential when only the address of the metadata service is configured."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from clients import CLIENTS, TOKEN, client_named
from ec2_role import ROLE_NAME, Ec2Role, fetch, fetch_document
from front import Front

REGION_PATH = "/latest/meta-data/placement/region"


@pytest.mark.parametrize("client", CLIENTS, ids=str)
def test_client_finds_the_role_with_session_tokens(client, aws, tmp_path):
    with Ec2Role("--http-tokens", "required", "--endpoint-url", aws.endpoint, environment=aws.host_keys) as ec2_role:
        ec2_role.wait_for_credential()
        result = client.run(aws, tmp_path, {client.endpoint_variable: ec2_role.endpoint})

        assert credential_requests(ec2_role) == [(*asked, 200) for asked in client.asks]
        assert_has_found(result, json.loads(fetch_document(ec2_role.endpoint)))


@pytest.mark.parametrize("client", [client for client in CLIENTS if client.version_1 is not None], ids=str)
def test_client_finds_the_role_by_imdsv1_if_tokens_are_refused(client, aws, tmp_path):
    with Ec2Role("--http-tokens", "optional", "--endpoint-url", aws.endpoint, environment=aws.host_keys) as ec2_role:
        ec2_role.wait_for_credential()
        with Front(ec2_role.endpoint, refuse=lambda method, path: 403 if method == "PUT" else None) as without_tokens:
            result = client.run(aws, tmp_path, {client.endpoint_variable: without_tokens.endpoint, **client.version_1})

        assert credential_requests(ec2_role) == [(*asked, 200) for asked in client.asks if asked != TOKEN]
        assert_has_found(result, json.loads(fetch_document(ec2_role.endpoint)))


def test_16_concurrent_clients_find_the_role_without_errors(aws, tmp_path):
    with Ec2Role("--http-tokens", "required", "--endpoint-url", aws.endpoint, environment=aws.host_keys) as ec2_role:
        ec2_role.wait_for_credential()
        document = json.loads(fetch_document(ec2_role.endpoint))

        def run(number, client):
            home = tmp_path / str(number)
            home.mkdir()
            return client.run(aws, home, {client.endpoint_variable: ec2_role.endpoint})

        clients = list(itertools.islice(itertools.cycle(CLIENTS), 16))
        with ThreadPoolExecutor(len(clients)) as threads:
            results = list(threads.map(run, range(len(clients)), clients))

        for result in results:
            assert_has_found(result, document)
        assert {status for _, _, status in ec2_role.requests() if status != 404} == {200}


def test_aws_sdk_for_rust_gets_the_region_that_ec2_role_uses(aws, tmp_path):
    client = client_named("deltalake")
    environment = {**aws.host_keys, "AWS_REGION": "eu-central-1"}
    with Ec2Role("--endpoint-url", aws.endpoint, environment=environment) as ec2_role:
        ec2_role.wait_for_credential()
        result = client.run(aws, tmp_path, {client.endpoint_variable: ec2_role.endpoint})

        assert result.returncode == 0, result.stderr
        assert ("GET", REGION_PATH, 200) in ec2_role.requests()
        assert fetch(ec2_role.endpoint, "GET", REGION_PATH) == (200, "eu-central-1")


def credential_requests(ec2_role):
    """The requests for session tokens and credentials, in order and without repetitions."""
    return list(dict.fromkeys(asked for asked in ec2_role.requests() if "/api/" in asked[1] or "/iam/" in asked[1]))


def assert_has_found(result, document):
    """Checks that a client succeeded, and that the fields it printed are those of the role's credentials. A field may be missing,
    because some clients do not print their credentials: they succeed only if AWS accepts their call."""
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    for key in ("AccessKeyId", "SecretAccessKey", "Token"):
        assert found.get(key, document[key]) == document[key]
    assert f":assumed-role/{ROLE_NAME}/" in found.get("Arn", f":assumed-role/{ROLE_NAME}/")
