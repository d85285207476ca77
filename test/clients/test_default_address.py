"""Every client finds the role's credential without any configuration when ec2-role has the address 169.254.169.254."""

import json

import pytest

from clients import CLIENTS
from ec2_role import Ec2Role, fetch_document
from link_local import METADATA_ADDRESS, skip_unless_own
from test_clients import assert_has_found, credential_requests


@pytest.mark.parametrize("client", CLIENTS, ids=str)
def test_client_finds_the_role_without_configuration(client, aws, tmp_path):
    skip_unless_own(METADATA_ADDRESS)
    options = ["--http-tokens", "required", "--endpoint-url", aws.endpoint]
    with Ec2Role(*options, environment=aws.host_keys, listen=f"{METADATA_ADDRESS}:80") as ec2_role:
        ec2_role.wait_for_credential()
        result = client.run(aws, tmp_path, {})

        assert credential_requests(ec2_role) == [(*asked, 200) for asked in client.asks]
        assert_has_found(result, json.loads(fetch_document(ec2_role.endpoint)))
