import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "docker"))

import session
from host import Host, import_tree
from sts import Aws, arn

NEEDED = ("ip", "iptables", "docker", "dockerd", "mmdebstrap", "setpriv")


def pytest_collection_modifyitems(items):
    session.skip_where_they_cannot_run(items, HERE, NEEDED)


@pytest.fixture(scope="session")
def engine():
    """One Docker Engine, which runs all hosts as containers."""
    with session.engine_for_hosts(import_tree) as engine:
        yield engine


@pytest.fixture(scope="session")
def aws(engine):
    with Aws(engine.instance) as aws:
        yield aws


@pytest.fixture(scope="session")
def serving_host(engine, aws):
    """A host with everything installed that serves one role. It boots once, for all tests that leave it unchanged."""
    with Host(engine) as host:
        host.install_docker()
        host.install()
        host.run("systemctl", "enable", "--now", "docker")
        yield host


@pytest.fixture
def host(serving_host):
    """The shared host, after a wait until its role is served."""
    serving_host.wait_until_active("ec2-role@web")
    serving_host.wait_until_served()
    serving_host.hangs = serving_host.count_hangs()
    yield serving_host
    # The supervisor soon replaces a server that hangs, so the test itself may not have noticed the hang.
    assert serving_host.count_hangs() == serving_host.hangs


@pytest.fixture
def denied(engine, aws):
    """The metadata service gives hosts a credential that may not assume roles. The value is a function that restores the host's
    own credential."""
    credential = engine.instance.real_metadata.credential
    allowed = dict(credential)
    with engine.instance.aws:
        sts = aws.client("sts", allowed["AccessKeyId"], allowed["SecretAccessKey"], allowed["Token"])
        session = sts.assume_role(RoleArn=arn("fluentd"), RoleSessionName="denied")["Credentials"]
    credential.update(AccessKeyId=session["AccessKeyId"], SecretAccessKey=session["SecretAccessKey"], Token=session["SessionToken"])
    yield lambda: credential.update(allowed)
    credential.update(allowed)


@pytest.fixture
def fresh_host(engine, aws):
    """A host for one test, with nothing installed."""
    with Host(engine) as host:
        yield host
