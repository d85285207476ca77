"""SSO and `aws login` as in scripts/README.md: ec2-role runs the real AWS CLI, which renews the expired source credential."""

import contextlib

import pytest

import sign_in
from images import CLIENT
from instance import INSTANCE_ADDRESS, wait_until
from instance_server import BINARY
from readme import OPERATING, block, compose
from real_metadata import LIST
from sts import ENDPOINT

SECTION = "SSO and aws login"

pytestmark = pytest.mark.usefixtures("published_images", "ec2_role_image", "aws")


@pytest.fixture
def services(docker):
    # The instance plays a laptop, which has no instance role, so hide its role. An ec2-role on the host's network still sees the
    # role and could use it as its source, so the tests also check that ec2-role has sent requests to `services`.
    docker.instance.guard("on")
    services = sign_in.SignInServices(docker.instance.aws, docker.instance.real_metadata.credential)
    yield services
    services.close()


def home(tmp_path, kind):
    home = tmp_path / "home"
    sign_in.sign_in(home, kind, block(SECTION, "ini", page=OPERATING))
    return home


@pytest.mark.parametrize("kind, asked", [("sso", ["/token", "/federation/credentials"]), ("login", ["/v1/token"])])
def test_server_on_the_laptop_uses_the_users_sign_in(docker, services, tmp_path, kind, asked):
    start, ask = (block(SECTION, "sh", n, page=OPERATING) for n in (0, 1))
    variables = {"HOME": "/home/me", "EC2_ROLE_ENDPOINT_URL": ENDPOINT, **services.variables}
    laptop = docker.run("--network", "host", "--user", "1000:1000", *(f"--env={name}={value}" for name, value in variables.items()),
                        "--volume", f"{BINARY}:/usr/bin/ec2-role", "--volume", f"{home(tmp_path, kind)}:/home/me",
                        CLIENT, "sh", "-euc", start)
    wait_until(lambda: "credential of" in docker.log(laptop), 30, what="the first credential")
    assert ":assumed-role/exc_web/" in docker.instance.run("sh", "-euc", ask).stdout
    assert services.requests == asked
    # Another machine on the laptop's network can make a route to docker0's address, but gets nothing.
    with contextlib.ExitStack() as after:
        route = ("172.17.0.1", "via", INSTANCE_ADDRESS)
        docker.instance.aws.run("ip", "route", "add", *route)
        after.callback(docker.instance.aws.run, "ip", "route", "delete", *route)
        answer = docker.instance.aws.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://172.17.0.1:4567{LIST}")
        assert answer.stdout == "403"


def test_image_with_the_aws_cli_uses_the_users_sign_in(docker, services, tmp_path):
    docker.instance.run("sh", "-euc", block(SECTION, "sh", 2, page=OPERATING))
    text = block("On a laptop", "yaml", page=OPERATING)
    for written, now in (("image: ec2-role\n", "image: ec2-role-aws-cli\n"), (":/home/.aws:ro", ":/home/.aws")):
        assert written in text
        text = text.replace(written, now)
    up = compose(docker, tmp_path, text, {"EC2_ROLE_ENDPOINT_URL": ENDPOINT, **services.variables},
                 HOME=str(home(tmp_path, "sso")), ROLE_UID="1000", AWS_PROFILE=sign_in.SSO)
    assert up.stdout == "exc_web", up.stdout + up.stderr
    assert services.requests == ["/token", "/federation/credentials"]
