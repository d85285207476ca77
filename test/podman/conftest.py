import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "docker"), str(HERE.parent / "systemd")]

import session
from podman_host import PodmanHost, import_tree
from sts import Aws

NEEDED = ("ip", "docker", "dockerd", "busybox", "mmdebstrap", "setpriv")


def pytest_collection_modifyitems(items):
    session.skip_where_they_cannot_run(items, HERE, NEEDED)


@pytest.fixture(scope="session")
def engine():
    with session.engine_for_hosts(import_tree) as engine:
        yield engine


@pytest.fixture(scope="session")
def aws(engine):
    with Aws(engine.instance) as aws:
        yield aws


@pytest.fixture(scope="session")
def one_host(engine, aws):
    """One host with Podman for all tests."""
    with PodmanHost(engine) as host:
        yield host


@pytest.fixture
def host(one_host):
    """The shared host, restored after each test."""
    yield one_host
    one_host.restore()
