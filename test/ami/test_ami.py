"""Tests a machine with the user-data, in this order: first boot, clock changes, network and Docker failures, reboot."""

import collections
import datetime
import json

import pytest

from instance import INSTANCE_ADDRESS, wait_until
from real_metadata import HOST_ROLE, LIST

UNIT = "ec2-role@web"
SERVED = "HTTP/1.1 200 OK exc_web"
SET_AHEAD = "ec2-role: the wall clock was set ahead"  # src/supervisor/poll_loop.rs says why ec2-role then fetches
MAX_BYTES = 16384
# Bound of the unit's memory peak. The unit's MemoryMax= is larger, for a credential_process.
MAX_MEMORY = 16 << 20
# Runs 6,000 clients behind docker0, from 200 addresses. Each client vanishes after its request: firewall rules in the clients'
# namespace drop the response, the server's FIN, and the client's FIN and RST.
VANISHING = r"""
ip netns add vanishing
trap 'ip netns del vanishing' EXIT
ip link add vanishing0 type veth peer name eth0 netns vanishing
ip link set vanishing0 master docker0 up
ip -n vanishing link set eth0 up
for last in $(seq 200); do ip -n vanishing address add 172.17.7.$last/16 dev eth0; done
ip -n vanishing route add default via 172.17.0.1
for flag in PSH FIN; do ip netns exec vanishing iptables -A INPUT -p tcp --tcp-flags $flag $flag -j DROP; done
for flag in RST FIN; do ip netns exec vanishing iptables -A OUTPUT -p tcp --tcp-flags $flag $flag -j DROP; done
ip netns exec vanishing python3 -c '
import socket, time
begun = time.monotonic()
for number in range(6000):
    source = (f"172.17.7.{1 + number % 200}", 0)
    with socket.create_connection(("169.254.169.254", 80), 30, source) as client:
        client.sendall(b"GET /latest/meta-data/iam/security-credentials/exc_web HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n")
    time.sleep(max(0, begun + number / 150 - time.monotonic()))
print(f"6000 clients in {time.monotonic() - begun:.0f} s")
'
"""
PATIENCE = 300  # seconds; the machine is emulated and therefore slow


@pytest.fixture
def guarded(machine):
    """The machine. After each test the fixture checks that no container ever got the machine's own role."""
    yield machine
    assert not [answer for answer in machine.answers() if HOST_ROLE in answer]


def credential(machine, aws):
    """Returns the credential that a container gets with an SDK's requests. Checks its expiration by the clock of this process,
    because the tests set the machine's clock."""
    token = machine.session_token()
    assert machine.ask(LIST, token, PATIENCE) == (200, "exc_web")
    status, document = machine.ask(f"{LIST}exc_web", token, PATIENCE)
    assert status == 200
    document = json.loads(document)
    expiration = datetime.datetime.strptime(document["Expiration"], "%Y-%m-%dT%H:%M:%S%z")
    assert expiration > datetime.datetime.now(datetime.timezone.utc)
    assert aws.whose(document).endswith("assumed-role/exc_web/ec2-role-i-0123456789abcdef0")
    return document


def moment(machine, unit, which):
    """When a unit became active (ActiveEnter) or began to start (InactiveExit), in microseconds since boot."""
    return int(machine.show(unit, f"{which}TimestampMonotonic"))


def test_cloud_init_detects_ec2_and_reads_the_user_data(guarded, document):
    print(f"user-data: {len(document)} bytes of at most {MAX_BYTES}")
    assert len(document) <= MAX_BYTES
    assert "Found single datasource: Ec2" in guarded.run("cat", "/run/cloud-init/ds-identify.log").stdout
    assert guarded.run("cloud-id").stdout.strip() == "aws"
    assert guarded.run("cat", "/var/lib/cloud/instance/user-data.txt").stdout == document


def test_guard_refuses_the_container_before_the_install(guarded):
    wait_until(lambda: len(guarded.answers()) > 1, PATIENCE, what="the container's first answer")
    assert guarded.answers() == ["started", "nobody"]
    assert guarded.ask() is None
    # The machine itself reaches the metadata service. So the service runs, and it is the guard that refuses the container.
    assert guarded.own_role() == HOST_ROLE
    assert guarded.run("test", "-e", "/usr/local/bin/ec2-role", check=False).returncode != 0
    assert moment(guarded, "cloud-init", "ActiveEnter") < moment(guarded, "docker", "InactiveExit")


def test_cloud_init_completes_and_all_units_are_active(guarded, release):
    release.allowed.set()
    status = guarded.cloud_init()
    assert "status: done" in status and "DataSourceEc2" in status, f"{status}\n{guarded.console()[-3000:]}"
    assert f"units: {UNIT}" in next(line for line in guarded.console().splitlines() if "ec2-role: installed" in line)
    for unit in (UNIT, f"{UNIT}.socket", "ec2-role-guard", "ec2-role-hook", "docker"):
        guarded.wait_until_active(unit, PATIENCE)
    guarded.run("ec2-role-hook", "status")
    assert guarded.run("systemctl", "--failed", "--quiet").stdout == ""


def test_a_container_gets_the_role_and_the_machine_keeps_its_own(guarded, aws):
    guarded.wait_until_served(seconds=PATIENCE)
    print(credential(guarded, aws)["Expiration"], guarded.show(UNIT, "StatusText"))
    wait_until(lambda: guarded.answers()[-1] == SERVED, PATIENCE, what="the role in the polling container")
    assert guarded.own_role() == HOST_ROLE


def test_clients_that_vanish_do_not_fill_the_units_memory(guarded, aws):
    """Checks the unit's memory peak. In cgroup v2 it includes the kernel's memory for the unit's connections."""
    group = f"/sys/fs/cgroup/{guarded.show(UNIT, 'ControlGroup')}"
    servers = guarded.run("cat", f"{group}/cgroup.procs").stdout
    print(guarded.run("sh", "-euc", VANISHING, timeout=PATIENCE).stdout)
    peak = int(guarded.run("cat", f"{group}/memory.peak").stdout)
    print(f"peak: {peak >> 10} KiB")
    assert peak < MAX_MEMORY
    assert guarded.run("cat", f"{group}/cgroup.procs").stdout == servers
    credential(guarded, aws)


@pytest.fixture
def one_line_for_each_call(guarded, aws):
    """Returns a function that checks the lines logged since the fixture's set-up. For each STS call there must be one line about
    a new credential. Every other line must begin with an item of `allowed`, or be the access log's count of earlier requests. The
    function returns the number of calls."""
    calls, said = aws.calls_from(INSTANCE_ADDRESS), guarded.said(UNIT)

    def check(*allowed):
        new = collections.Counter(guarded.said(UNIT)) - collections.Counter(said)
        credentials = [line for line in new.elements() if line.startswith("ec2-role: credential of ")]
        assert [line for line in new if line not in credentials and not line.startswith((*allowed, "ec2-role: access log: "))] == []
        assert aws.calls_from(INSTANCE_ADDRESS) - calls == len(credentials)
        return len(credentials)

    return check


@pytest.mark.parametrize("step", ["+1 hour", "-1 hour", "-1 hour", "+1 hour"],
                         ids=["an-hour-ahead", "right-again", "an-hour-behind", "and-right-again"])
def test_clock_change_while_running_disturbs_no_container(guarded, aws, one_line_for_each_call, step):
    answers, supervisor = guarded.answers(), guarded.show(UNIT, "MainPID")
    print(guarded.run("date", "--utc", "--set", step).stdout.strip())
    for _ in range(3):
        credential(guarded, aws)
    # One regular refresh may become due during these requests. A step ahead causes one more.
    assert one_line_for_each_call(SET_AHEAD) <= 1 + step.startswith("+")
    assert guarded.answers() == answers
    assert guarded.show(UNIT, "MainPID") == supervisor


def test_a_role_is_assumed_while_the_clock_is_an_hour_ahead(guarded, aws, one_line_for_each_call):
    before = credential(guarded, aws)
    guarded.run("date", "--set", "+1 hour")
    guarded.run("systemctl", "restart", UNIT)
    after = credential(guarded, aws)
    guarded.run("date", "--set", "-1 hour")
    assert after["AccessKeyId"] != before["AccessKeyId"]
    credential(guarded, aws)
    assert one_line_for_each_call(SET_AHEAD, "ec2-role: ended by SIGTERM", "ec2-role: listening on ", "ec2-role-hook: docker0: ",
                                  "ec2-role: pass-through: ") <= 3


def test_guard_survives_a_restart_of_systemd_networkd(guarded, aws):
    rules = guarded.run("ip", "rule").stdout
    guarded.run("systemctl", "restart", "systemd-networkd")
    guarded.run("/lib/systemd/systemd-networkd-wait-online", f"--timeout={PATIENCE}")
    assert guarded.run("ip", "rule").stdout == rules
    credential(guarded, aws)


def test_container_is_refused_after_a_nat_flush_until_restart(guarded, aws):
    guarded.run("iptables", "--table", "nat", "--flush")
    assert guarded.ask() is None
    wait_until(lambda: guarded.answers()[-1] == "nobody", PATIENCE, what="the refusal of the polling container")
    guarded.run("systemctl", "restart", "ec2-role-hook")
    guarded.run("systemctl", "restart", UNIT)
    credential(guarded, aws)
    guarded.run("ec2-role-hook", "status")


def wait_until_the_container_was_started_and_served(machine, answers):
    wait_until(lambda: "started" in machine.answers()[answers:] and machine.answers()[-1] == SERVED, PATIENCE,
               what="the role in the container that was started again")


def test_docker_restart_does_not_restart_ec2_role(guarded, aws):
    answers, supervisor = len(guarded.answers()), guarded.show(UNIT, "MainPID")
    guarded.run("systemctl", "restart", "docker")
    wait_until_the_container_was_started_and_served(guarded, answers)
    credential(guarded, aws)
    assert guarded.show(UNIT, "MainPID") == supervisor
    guarded.run("ec2-role-hook", "status")


def test_guard_starts_first_and_role_is_served_after_reboot(guarded, aws):
    answers = len(guarded.answers())
    guarded.reboot()
    status = guarded.cloud_init()
    assert "status: done" in status, f"{status}\n{guarded.console()[-3000:]}"
    assert guarded.run("grep", "-c", "config-bootcmd ran successfully", "/var/log/cloud-init.log").stdout.strip() == "2"
    assert moment(guarded, "ec2-role-guard", "ActiveEnter") < moment(guarded, "sysinit.target", "ActiveEnter")
    assert moment(guarded, "ec2-role-hook", "ActiveEnter") < moment(guarded, "docker", "InactiveExit")
    assert moment(guarded, "cloud-init", "ActiveEnter") < moment(guarded, "docker", "InactiveExit")
    guarded.wait_until_active(UNIT, PATIENCE)
    wait_until_the_container_was_started_and_served(guarded, answers)
    credential(guarded, aws)
    assert guarded.own_role() == HOST_ROLE
    assert guarded.run("systemctl", "--failed", "--quiet").stdout == ""


def test_without_the_guard_a_container_has_the_machines_role(machine):
    """Shows that the tests above can fail: without the guard, the container gets the machine's role."""
    machine.run("ec2-role-hook", "remove", "--all")
    machine.run("ec2-role-guard", "off")
    assert machine.ask(seconds=PATIENCE) == (200, HOST_ROLE)
