"""`ec2-role-hook add --user` with real rootless engines: each way in which their containers reach a network."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from accounts import add_accounts
from instance import METADATA, METADATA_IPV6
from real_metadata import HOST_ROLE, LIST
from rootless import WAYS, Rootless
from stand_in import StandIn

ADDRESSES = (METADATA, METADATA_IPV6)


@pytest.fixture(scope="module")
def rootless():
    rootless = Rootless()
    yield rootless
    rootless.close()


@pytest.fixture
def host(both_families, tmp_path):
    add_accounts(both_families, tmp_path)
    servers = [StandIn(both_families.ec2, address, name="exc_web") for address in ("127.0.0.1", "::1")]
    yield both_families
    for server in servers:
        server.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_rootless_container_has_its_role_or_none(host, rootless, way):
    # Sends the requests to ADDRESSES concurrently, because a refusal can be a timeout.
    def seen():
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda address: rootless.role(host, way, address, LIST), ADDRESSES))

    assert seen() == [HOST_ROLE, HOST_ROLE]
    host.hook("add", "--user", "app")
    assert seen() == ["exc_web", "exc_web"]
    host.ec2.run("iptables", "-t", "nat", "-F")
    assert HOST_ROLE not in seen()
    host.ec2.run("nft", "flush", "ruleset")
    assert seen() == [None, None]
    host.hook("add", "--user", "app")
    assert seen() == ["exc_web", "exc_web"]
    host.hook("remove", "--user", "app")
    assert seen() == [None, None]
    host.guard("off")
    assert seen() == [HOST_ROLE, HOST_ROLE]
