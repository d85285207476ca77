"""Whatever fails, a container gets an error or its own role, and never the host's."""

import subprocess
import time

import pytest

from containers import metadata, refused, role_name, start_client
from instance import wait_until
from real_metadata import HOST_ROLE, LIST

pytestmark = pytest.mark.usefixtures("client_image", "aws")


@pytest.fixture
def hooked(docker):
    docker.instance.hook("add")
    return start_client(docker, "--restart", "always")


def test_container_is_refused_before_the_server_starts(docker, hooked):
    assert refused(docker, hooked)


def test_container_is_refused_after_the_server_stops(docker, hooked, start_server):
    server = start_server("exc_web")
    assert role_name(docker, hooked) == "exc_web"
    server.stop()
    assert refused(docker, hooked)


def test_container_is_refused_until_a_killed_server_restarts(docker, hooked, start_server):
    server = start_server("exc_web")
    server.kill()
    wait_until(lambda: refused(docker, hooked), what="the end of its other half")
    start_server("exc_web")
    assert role_name(docker, hooked) == "exc_web"


def test_container_is_refused_after_a_nat_flush_until_add(docker, hooked, start_server):
    start_server("exc_web")
    docker.instance.ec2.run("iptables", "-t", "nat", "-F")
    for _ in range(3):
        body, status = metadata(docker, hooked, LIST)
        assert status != 0 and HOST_ROLE not in body
    assert docker.instance.hook("status", check=False).returncode == 1
    docker.instance.hook("add")
    assert role_name(docker, hooked) == "exc_web"
    assert docker.instance.hook("status").stdout == "ok: docker0 → 172.17.0.1:4567 (exc_web)\n"
    # The flush also deleted Docker's own rules; dockerd adds them again when it starts.
    docker.restart()


def test_container_keeps_its_role_after_a_dockerd_restart(docker, hooked, start_server):
    start_server("exc_web")
    docker.restart()
    assert docker.instance.hook("status").returncode == 0
    wait_until(lambda: docker.inspect(hooked, "{{.State.Running}}") == "true", what="the container's restart")
    assert role_name(docker, hooked) == "exc_web"


def test_container_on_a_network_made_later_is_refused(docker, hooked):
    docker.docker("network", "create", "later")
    container = start_client(docker, "--network", "later")
    assert refused(docker, container)


def test_container_on_a_second_network_gets_its_role_or_none(docker, hooked, start_server):
    start_server("exc_web")
    docker.docker("network", "create", "later")
    docker.docker("network", "connect", "later", hooked)
    assert role_name(docker, hooked) in ("exc_web", None)


def test_connection_opened_before_add_fails_within_seconds(docker, start_server):
    """While the hook is added, a client sends a request every 50 ms on one keep-alive connection to the real service."""
    container = start_client(docker)
    start_server("exc_web")
    ask = f"""
import http.client, time
connection = http.client.HTTPConnection("169.254.169.254", timeout=1)
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    try:
        connection.request("GET", "{LIST}")
        print(connection.getresponse().read().decode(), flush=True)
    except OSError:
        print("error", flush=True)
        break
    connection.auto_open = 0
    time.sleep(0.05)
"""
    asking = subprocess.Popen(["docker", "exec", container, "python3", "-c", ask], stdout=subprocess.PIPE, text=True,
                              env=docker.environment)
    assert asking.stdout.readline() == f"{HOST_ROLE}\n"
    docker.instance.hook("add")
    added = time.monotonic()
    seen = asking.stdout.read().split()
    asking.wait(5)
    assert seen[-1] == "error" and set(seen) <= {HOST_ROLE, "error"}
    assert time.monotonic() - added < 5
    assert role_name(docker, container) == "exc_web"


def test_container_is_refused_if_docker_starts_after_the_guard(docker):
    docker.stop()
    try:
        docker.instance.guard("on")
    finally:
        docker.start()
    assert refused(docker, start_client(docker))
    docker.instance.guard("status")
