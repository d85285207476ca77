"""While STS fails and there is no credential, no client crashes; once STS works, every client finds the credential."""

import json
import threading

import pytest

from clients import CLIENTS
from ec2_role import Ec2Role, fetch_document
from front import Front
from test_clients import assert_has_found


@pytest.mark.parametrize("client", CLIENTS, ids=str)
def test_client_fails_cleanly_and_recovers_with_sts(client, aws, tmp_path):
    sts_is_down = threading.Event()
    sts_is_down.set()
    with (
        Front(aws.endpoint, refuse=lambda method, path: 503 if sts_is_down.is_set() else None) as sts,
        Ec2Role("--endpoint-url", sts.endpoint, environment=aws.host_keys) as ec2_role,
    ):
        ec2_role.wait_for("; no credential, requests are answered 500")
        environment = {client.endpoint_variable: ec2_role.endpoint}
        result = client.run(aws, tmp_path, environment)

        assert result.returncode > 0, f"ended by signal {-result.returncode}:\n{result.stderr}"
        assert {status for _, path, status in ec2_role.requests() if "/iam/" in path} == {500}

        sts_is_down.clear()
        ec2_role.wait_for_credential()
        result = client.run(aws, tmp_path, environment)
        assert_has_found(result, json.loads(fetch_document(ec2_role.endpoint)))
