import os
import pathlib
import shutil
import sys

import pytest

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "docker"))

import engine as docker_engine
import network_namespace
from engine import Engine
from host import Host, import_tree
from instance import Instance
from sts import Aws

NEEDED = ("ip", "iptables", "docker", "dockerd", "mmdebstrap", "setpriv")


def pytest_collection_modifyitems(items):
    """Where these cannot run they are skipped with one reason; in CI a skip would hide that nothing was tested."""
    lacking = [program for program in NEEDED if shutil.which(program) is None]
    reason = "needs root" if os.geteuid() != 0 else f"needs {', '.join(lacking)}" if lacking else None
    if reason and not os.environ.get("CI"):
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=f"test/systemd: {reason}"))


@pytest.fixture(scope="session")
def engine():
    """One Docker Engine for all hosts; beside it AWS, and no way out."""
    network_namespace.remove_what_killed_runs_left()
    docker_engine.remove_what_killed_runs_left()
    instance = Instance()
    try:
        engine = Engine(instance)
        try:
            engine.start()
            instance.environment = engine.environment
            import_tree(engine)
            yield engine
        finally:
            engine.remove()
    finally:
        instance.remove()


@pytest.fixture(scope="session")
def aws(engine):
    aws = Aws(engine.instance)
    yield aws
    aws.close()


@pytest.fixture(scope="session")
def serving_host(engine, aws):
    """A host with everything installed and one role served; booted once for all tests that leave it as they found it."""
    with Host(engine) as host:
        host.install()
        host.configure("web", "exc_web")
        host.run("systemctl", "enable", "--now", "docker", "ec2-role@web.socket", "ec2-role@web")
        yield host


@pytest.fixture
def host(serving_host):
    """That host, its role served."""
    serving_host.wait_until_active("ec2-role@web")
    serving_host.wait_until_served()
    yield serving_host


@pytest.fixture
def fresh_host(engine, aws):
    """A host with nothing installed, for one test."""
    with Host(engine) as host:
        yield host
