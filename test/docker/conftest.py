import pathlib

import pytest

import session
from asking import role_or_none
from containers import start_client
from images import CLIENT, build_ec2_role, import_busybox, import_client
from instance import METADATA_IPV6, Instance, firewall, routing, wait_until
from instance_server import InstanceServer
from real_metadata import HOST_ROLE
from role_networks import create
from stand_in import StandIn
from sts import ENDPOINT, Aws

HERE = pathlib.Path(__file__).parent
NEEDED = ("ip", "iptables", "iptables-legacy", "nft", "docker", "dockerd", "busybox", "mmdebstrap", "setpriv", "nsenter")


def pytest_collection_modifyitems(items):
    session.skip_where_they_cannot_run(items, HERE, NEEDED)


@pytest.fixture(scope="session", autouse=True)
def leftovers():
    session.remove_what_killed_runs_left()


@pytest.fixture
def instance():
    """An instance without Docker. Its bridges and namespaces are made with `ip`, which is fast."""
    made = Instance()
    yield made
    made.remove()


@pytest.fixture
def host(instance):
    """An instance with the bridge docker0 and one container on it."""
    instance.bridge("docker0", "172.17.0.1/24")
    instance.box = instance.container("docker0", "172.17.0.2/24", "172.17.0.1")
    return instance


@pytest.fixture
def both_families(host):
    """The fixture `host`, with IPv6 too."""
    host.ec2.ip("address add fd17::1/64 dev docker0 nodad")
    host.box.ip("address add fd17::2/64 dev eth0 nodad", "route add default via fd17::1")
    host.aws.ip("route add fd17::/64 via fd77::2")
    wait_until(lambda: role_or_none(host.box, address=METADATA_IPV6) == HOST_ROLE, what=f"a way to {METADATA_IPV6}")
    return host


@pytest.fixture
def server(host):
    stand_in = StandIn(host.ec2, "172.17.0.1")
    yield stand_in
    stand_in.close()


@pytest.fixture(scope="session")
def one_engine():
    """One Docker Engine on one instance for all tests, because an engine takes seconds to start."""
    with session.running_engine() as engine:
        import_busybox(engine)
        yield engine


@pytest.fixture(scope="session")
def one_aws(one_engine):
    with Aws(one_engine.instance) as aws:
        yield aws


@pytest.fixture(scope="session")
def client_image(one_engine):
    import_client(one_engine)


@pytest.fixture
def published_images(docker, client_image):
    """Images with the names that a user would pull."""
    docker.docker("build", "--tag", "curlimages/curl", "-", input=f'FROM {CLIENT}\nENTRYPOINT ["curl"]\n')
    variables = f"AWS_ENDPOINT_URL={ENDPOINT} AWS_REGION=us-east-1"
    docker.docker("build", "--tag", "amazon/aws-cli", "-", input=f'FROM {CLIENT}\nENV {variables}\nENTRYPOINT ["aws"]\n')


@pytest.fixture(scope="session")
def ec2_role_image(one_engine):
    """Builds the image of ec2-role; the value is the output of scripts/image."""
    return build_ec2_role(one_engine)


@pytest.fixture
def docker(one_engine):
    """The shared engine. After each test the fixture removes all containers, networks and rules."""
    instance = one_engine.instance
    instance.real_metadata.ip_ttl = 64
    instance.real_metadata.requests.clear()
    yield one_engine
    hung = one_engine.hung_servers()
    one_engine.remove_all()
    instance.hook("remove", "--all")
    instance.guard("off")
    assert "EC2-ROLE" not in firewall(instance) and "169.254" not in routing(instance)
    assert not hung


@pytest.fixture
def aws(one_aws, docker):
    return one_aws


@pytest.fixture
def start_server(docker, aws):
    """A function that starts ec2-role on the instance. Each server is stopped after the test."""
    started = []

    def start(role, *arguments):
        server = InstanceServer(docker.instance, role, *arguments)
        started.append(server)
        return server.ready()

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def pair(docker):
    """Two role networks with a client on each; the value is {role: client}."""
    for role in ("fluentd", "php"):
        create(docker, role)
    yield {role: start_client(docker, "--network", role) for role in ("fluentd", "php")}
