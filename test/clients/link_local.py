"""The link-local addresses that are built into SDKs.

scripts/test runs the tests that need them in a network namespace that has the addresses. Outside it, these tests are skipped,
because a real metadata service could have the addresses.
"""

import errno
import socket

import pytest

METADATA_ADDRESS = "169.254.169.254"
CONTAINER_CREDENTIALS_ADDRESS = "169.254.170.2"


def skip_unless_own(address):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, 80))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EACCES):
                raise
            pytest.skip(f"{address} is not an address of this network namespace")
