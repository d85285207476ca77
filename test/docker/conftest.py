import os
import pathlib
import shutil

import pytest

import engine as docker_engine
import network_namespace
from engine import Engine
from images import build_ec2_role, import_busybox, import_client
from instance import Instance, firewall, routing
from instance_server import InstanceServer
from sts import Aws

HERE = pathlib.Path(__file__).parent
NEEDED = ("ip", "iptables", "iptables-legacy", "docker", "dockerd", "busybox", "mmdebstrap", "setpriv", "nsenter")


def pytest_collection_modifyitems(items):
    """Where these cannot run they are skipped with one reason; in CI a skip would hide that nothing was tested."""
    lacking = [program for program in NEEDED if shutil.which(program) is None]
    reason = "needs root" if os.geteuid() != 0 else f"needs {', '.join(lacking)}" if lacking else None
    if reason and not os.environ.get("CI"):
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=f"test/docker: {reason}"))


@pytest.fixture(scope="session", autouse=True)
def leftovers():
    network_namespace.remove_what_killed_runs_left()
    docker_engine.remove_what_killed_runs_left()


@pytest.fixture
def instance():
    """An instance without Docker: bridges and namespaces by hand, quick to make."""
    made = Instance()
    yield made
    made.remove()


@pytest.fixture(scope="session")
def one_engine():
    """One Docker Engine on one instance for all tests: it takes seconds to start."""
    made = Instance()
    try:
        engine = Engine(made)
        try:
            engine.start()
            made.environment = engine.environment
            import_busybox(engine)
            yield engine
        finally:
            engine.remove()
    finally:
        made.remove()


@pytest.fixture(scope="session")
def one_aws(one_engine):
    aws = Aws(one_engine.instance)
    yield aws
    aws.close()


@pytest.fixture(scope="session")
def client_image(one_engine):
    import_client(one_engine)


@pytest.fixture(scope="session")
def ec2_role_image(one_engine):
    """What scripts/image printed."""
    return build_ec2_role(one_engine)


@pytest.fixture
def docker(one_engine):
    """The engine, as each test finds and leaves it: no container, no network, no rule of ours."""
    instance = one_engine.instance
    instance.real_metadata.ip_ttl = 64
    instance.real_metadata.requests.clear()
    yield one_engine
    one_engine.remove_all()
    instance.hook("remove", "--all")
    instance.hook("guard", "off")
    if "legacy" in instance.ec2.run("cat", "/proc/net/ip_tables_names", check=False).stdout:
        instance.hook("remove", "--all", "--iptables", "iptables-legacy")
    assert "ec2-role-hook" not in firewall(instance) and "169.254" not in routing(instance)


@pytest.fixture
def aws(one_aws, docker):
    return one_aws


@pytest.fixture
def start_server(docker, aws):
    """Starts ec2-role on the instance; every one started is stopped."""
    started = []

    def start(role, *arguments):
        server = InstanceServer(docker.instance, role, *arguments)
        started.append(server)
        return server.ready()

    yield start
    for server in started:
        server.stop()
