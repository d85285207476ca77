"""Every client finds the role's credential with nothing configured at all, where 169.254.169.254 is ec2-role's.

This takes a network namespace of its own with that address on it: scripts/test makes one.
"""

import errno
import json
import socket

import pytest

from clients import CLIENTS
from ec2_role import Ec2Role, fetch_document
from test_clients import assert_has_found, credential_requests

ADDRESS = "169.254.169.254"


@pytest.fixture
def own_address():
    """Skips where the address is not this machine's own to listen on: what answers there then is not ours to ask."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, 80))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EACCES):
                raise
            pytest.skip(f"{ADDRESS} is not an address of this network namespace")


@pytest.mark.parametrize("client", CLIENTS, ids=str)
def test_finds_the_role_with_nothing_configured(client, own_address, aws, tmp_path):
    options = ["--http-tokens", "required", "--endpoint-url", aws.endpoint]
    with Ec2Role(*options, environment=aws.host_keys, listen=f"{ADDRESS}:80") as ec2_role:
        ec2_role.wait_for_credential()
        result = client.run(aws, tmp_path, {})

        assert credential_requests(ec2_role) == [(*asked, 200) for asked in client.asks]
        assert_has_found(result, json.loads(fetch_document(ec2_role.endpoint)))
