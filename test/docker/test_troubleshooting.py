"""Runs the three troubleshooting commands of scripts/README.md in each set-up: their output must name the cause."""

import pytest

from containers import role_name, start_client
from instance import REPOSITORY
from instance_server import BINARY, InstanceServer
from readme import OPERATING, block
from real_metadata import HOST_ROLE

pytestmark = pytest.mark.usefixtures("published_images", "aws")

SCRIPTS = REPOSITORY / "scripts"


@pytest.fixture
def run_commands(docker):
    """A function that runs the three commands and returns the output of each."""
    def run():
        commands = block("Troubleshooting", "sh", page=OPERATING).replace("sudo ", "").splitlines()
        assert len(commands) == 3
        results = [docker.instance.run("sh", "-c", f"PATH={SCRIPTS}:{BINARY.parent}:$PATH; {command}", check=False) for command in commands]
        return [result.stdout + result.stderr for result in results]
    return run


def assert_names(printed, *causes):
    for text, cause in zip(printed, causes, strict=True):
        assert cause in text, printed


def test_commands_report_a_working_setup(docker, run_commands, start_server):
    start_server("exc_web")
    docker.instance.hook("add")
    assert_names(run_commands(), "\n\nexc_web", "ok: docker0 → 172.17.0.1:4567 (exc_web)", "exc_web")


def test_commands_report_that_nothing_is_turned_on(run_commands):
    assert_names(run_commands(), f"\n\n{HOST_ROLE}", "containers may have the host's role; ec2-role-guard on", "start ec2-role")


def test_commands_report_a_missing_hook(docker, run_commands, start_server):
    start_server("exc_web")
    docker.instance.guard("on")
    assert_names(run_commands(), "Failed to connect", "NOT ok: no hook is in place (ec2-role-hook add)", "exc_web")


def test_commands_report_a_missing_server(docker, run_commands):
    docker.instance.hook("add")
    assert_names(run_commands(), "Failed to connect", "NOT ok: docker0: nobody listens at 172.17.0.1:4567", "Connection refused")


def test_commands_report_a_server_without_a_credential(docker, run_commands, monkeypatch):
    docker.instance.hook("add")
    monkeypatch.setitem(docker.instance.real_metadata.credential, "SecretAccessKey", "wrong")
    server = InstanceServer(docker.instance, "exc_web")
    try:
        server.wait_for("SignatureDoesNotMatch")
        assert_names(run_commands(), "HTTP/1.1 500 ", "ok: docker0", "no valid credential")
    finally:
        server.stop()


def test_internal_network_is_a_cause_that_status_cannot_name(docker, start_server):
    """Newer versions of Docker give containers of an internal network no default route, so their requests do not reach the hook."""
    docker.docker("network", "create", "--internal", "--opt", "com.docker.network.bridge.name=br-inside", "--subnet", "172.30.0.0/24", "inside")
    start_server("exc_web", "172.30.0.1:4567")
    docker.instance.hook("add", "--bridge", "br-inside")
    client = start_client(docker, "--network", "inside")
    has_route = "default via" in docker.execute(client, "ip", "route").stdout
    assert role_name(docker, client) == ("exc_web" if has_route else None)
    assert docker.instance.hook("status").stdout == "ok: br-inside → 172.30.0.1:4567 (exc_web)\n"
    cause, = (row for row in (SCRIPTS / "README.md").read_text().splitlines() if row.startswith("| `Failed to connect`"))
    assert "If the second command says ok: (1) a network made with `--internal`" in cause
