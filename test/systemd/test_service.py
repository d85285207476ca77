"""Tests the unit ec2-role@ on a host with systemd: its privileges, its restarts under load, and its recovery from failures."""

import errno
import json
import re

import pytest

from host import SCRIPTS, Host, second_bridge
from instance import wait_until
from readme import OPERATING, command
from real_metadata import HOST_ROLE, LIST
from systemd_host import METADATA

UNIT = "ec2-role@web"
HTTP_ERROR = 22  # curl's exit status for an HTTP error, with --fail


def test_unit_serves_the_role_and_status_shows_its_expiration(host, aws):
    document = host.wait_until_served()
    assert aws.whose(document).endswith("assumed-role/exc_web/ec2-role-i-0123456789abcdef0")
    status = host.show(UNIT, "StatusText")
    assert status == f"credential of arn:aws:iam::123456789012:role/exc_web valid until {document['Expiration']}"


def test_region_discovery_works_in_a_container(host):
    host.wait_until_served()
    assert wait_until(lambda: host.ask("/latest/meta-data/placement/region"), what="an answer") == (200, "us-east-1")


def test_processes_have_a_dynamic_user_limits_and_no_capability(host):
    processes = host.processes()
    assert {"ec2-role", "ec2-role-server"} <= processes.keys()
    for name, pid in processes.items():
        status = dict(line.split(":\t", 1) for line in host.run("cat", f"/proc/{pid}/status").stdout.splitlines() if ":\t" in line)
        assert int(status["Uid"].split()[0]) >= 61184, name  # systemd gives dynamic users an id from 61184 on
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, name
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), name
        limits = host.run("cat", f"/proc/{pid}/limits").stdout
        assert re.search("Max core file size +0 +0 ", limits) and re.search("Max open files +4096 +4096 ", limits), limits
        assert host.run("readlink", f"/proc/{pid}/ns/ipc").stdout != host.run("readlink", "/proc/1/ns/ipc").stdout, name
    # The host is a container, in which systemd may not lower a process's OOM score, so these limits are read from systemd.
    limits = host.show(UNIT, "MemoryMax", "TasksMax", "OOMScoreAdjust", "TimeoutStopUSec", "LogRateLimitBurst")
    assert limits == [str(256 << 20), "256", "-500", "5s", "5000"]


def test_the_service_can_write_where_the_readme_says_only(host):
    supervisor = host.show(UNIT, "MainPID")
    uid = host.run("stat", "--format=%u", f"/proc/{supervisor}").stdout.strip()
    found = host.run("nsenter", "--mount", f"--target={supervisor}", "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups",
                     "find", "/", "-path", "/proc", "-prune", "-o", "-type", "d", "-writable", "-print", check=False).stdout
    key = "/run/private/ec2-role/web"
    assert {key} < set(found.split()) <= {key, "/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock"}
    assert host.run("stat", "--format=%a", key).stdout == "700\n"


def test_unit_serves_where_user_namespaces_are_forbidden(engine, aws, tmp_path):
    """A seccomp profile gives the error that the kernel gives if user.max_user_namespaces is 0. The sysctl would change the whole
    machine."""
    new_user = {"index": 0, "value": 0x10000000, "valueTwo": 0x10000000, "op": "SCMP_CMP_MASKED_EQ"}
    denied = {"names": ["clone", "unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSPC, "args": [new_user]}
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [denied]}))

    class Hardened(Host):
        options = (*Host.options, "--security-opt", f"seccomp={profile}")

    with Hardened(engine) as hardened:
        assert "No space left" in hardened.run("unshare", "--user", "true", check=False).stderr
        hardened.install_docker()
        hardened.install()
        hardened.run("systemctl", "enable", "--now", "docker")
        hardened.wait_until_served()


def test_server_inherits_no_variables_of_systemd_or_ec2_role(host):
    environment = host.run("cat", f"/proc/{host.processes()['ec2-role-server']}/environ").stdout
    assert "NOTIFY_SOCKET" not in environment and "EC2_ROLE" not in environment and "INVOCATION" not in environment


def test_a_flood_of_requests_displaces_no_event_from_the_journal(host):
    # Start a new server: the requests of other tests count towards the access log's limit of this minute.
    host.run("systemctl", "restart", UNIT)
    host.wait_until_served()
    host.run("curl", "--silent", "--output", "/dev/null", "http://172.17.0.1:4567/latest/flood/[1-1500]")
    host.run("systemctl", "reload", UNIT)
    wait_until(lambda: "SIGHUP: fetching now" in host.journal(), what="the event in the journal")
    # Access log lines that journald does not take at once are dropped, so there can be fewer than the limit, 1000 a minute.
    assert 0 < host.journal().count("/latest/flood/") <= 1000
    assert "Suppressed" not in host.journal()


def test_restart_under_load_loses_and_refuses_no_request(host):
    pids = set()
    with host.under_load():
        for _ in range(6):  # one more than systemd allows in 10 s by default
            host.run("systemctl", "restart", UNIT)
            pids.add(host.show(UNIT, "MainPID"))
    assert len(pids) == 6


def test_upgrade_under_load_loses_and_refuses_no_request(host):
    supervisor, hook = host.show(UNIT, "MainPID"), host.show("ec2-role-hook", "InvocationID")
    with host.under_load():
        host.install()
        host.run("sh", "-euc", command("systemctl daemon-reload; systemctl restart", OPERATING))
    assert host.show(UNIT, "MainPID") != supervisor
    assert host.show("ec2-role-hook", "InvocationID") != hook, "the new scripts have not made the rules anew"


@pytest.mark.parametrize("part", ["ec2-role", "ec2-role-server"])
def test_killed_process_is_replaced_and_tokens_stay_valid(host, part):
    token = host.session_token()
    pid = host.processes()[part]
    host.run("kill", "-9", str(pid))
    wait_until(lambda: host.processes().get(part) not in (None, pid), what="another process")
    assert host.ask(LIST, token) == (200, "exc_web")


def test_a_stopped_server_is_replaced_within_3_seconds(host):
    before = host.processes()
    host.run("kill", "-STOP", str(before["ec2-role-server"]))
    # A replacement takes up to 3 s; the fourth second is for listing the processes.
    wait_until(lambda: host.processes().get("ec2-role-server") not in (None, before["ec2-role-server"]), seconds=4)
    assert host.ask() == (200, "exc_web")
    assert host.processes()["ec2-role"] == before["ec2-role"]
    host.hangs += 1


def test_a_stopped_supervisor_is_replaced_by_the_watchdog(host):
    token = host.session_token()
    before = host.processes()
    host.run("kill", "-STOP", str(before["ec2-role"]))
    wait_until(lambda: host.processes().get("ec2-role") not in (None, before["ec2-role"]))
    host.wait_until_active(UNIT)
    assert host.ask(LIST, token) == (200, "exc_web")
    # SIGABRT does not end a stopped process, so sending it first would only cost seconds.
    assert re.findall(rf"Killing process {before['ec2-role']} .* with signal (\w+)", host.journal())[0] == "SIGKILL"


# Sends 120 incomplete requests. The server buffers up to 8 KiB of each, so the unit exceeds the memory limit that the test sets.
# The hook accepts all 120 connections: its limit is 128 for each container.
HOLD_REQUESTS = """
import socket, time
held = [socket.create_connection(("169.254.169.254", 80), 3) for _ in range(120)]
for connection in held:
    try: connection.sendall(b"GET / HTTP/1.1\\r\\nX: " + 8000 * b"x")
    except OSError: pass
time.sleep(2)
"""


def test_out_of_memory_kill_of_the_server_keeps_the_supervisor(host):
    token = host.session_token()
    before = host.processes()
    limit = host.show(UNIT, "MemoryMax")
    room = int(host.show(UNIT, "MemoryCurrent")) + 512 * 1024
    try:
        host.run("systemctl", "set-property", "--runtime", UNIT, f"MemoryMax={room}")
        host.in_container("python3", "-c", HOLD_REQUESTS, check=False)
        wait_until(lambda: host.processes().get("ec2-role-server") not in (None, before["ec2-role-server"]), what="the kill")
    finally:
        host.run("systemctl", "set-property", "--runtime", UNIT, f"MemoryMax={limit}")
    assert f"server replaced ({before['ec2-role-server']}): killed by signal 9" in host.journal()
    assert host.processes()["ec2-role"] == before["ec2-role"]
    assert host.ask(LIST, token) == (200, "exc_web")


def test_a_reload_fetches_a_credential_now(host):
    before = host.wait_until_served()
    host.run("systemctl", "reload", UNIT)
    wait_until(lambda: host.wait_until_served()["AccessKeyId"] != before["AccessKeyId"], seconds=10, what="the next credential")
    assert "SIGHUP: fetching now" in host.journal()


def test_reload_keeps_the_server_and_loses_no_request(host):
    before = host.processes()
    with host.under_load():
        host.run("systemctl", "reload", UNIT)
    host.run("systemctl", "reload", UNIT)
    for _ in range(5):
        assert host.ask() == (200, "exc_web")
    assert host.processes()["ec2-role-server"] == before["ec2-role-server"]


@pytest.mark.parametrize("signal", ["HUP", "USR2", "TERM"])
def test_a_signal_to_all_processes_loses_no_request(host, signal):
    before = host.processes()["ec2-role-server"]
    with host.under_load():
        host.run("systemctl", "kill", f"--signal={signal}", UNIT)
        wait_until(lambda: host.processes().get("ec2-role-server"), what="a server")
    assert (host.processes()["ec2-role-server"] == before) == (signal != "TERM")


def test_the_journal_holds_the_access_log_and_no_secret(host):
    token = host.session_token()
    document = host.wait_until_served()
    assert host.ask(LIST, token)[0] == 200
    journal = host.run("journalctl", "--no-pager", "--output=export").stdout
    assert '"GET /latest/meta-data/iam/security-credentials/ HTTP/1.1" 200' in journal
    assert f"credential of arn:aws:iam::123456789012:role/exc_web valid until {document['Expiration']}" in journal
    of_the_host = host.real_metadata.credential
    for secret in (token, document["SecretAccessKey"], document["Token"], of_the_host["SecretAccessKey"], of_the_host["Token"]):
        assert secret not in journal


def test_hook_restart_repairs_nat_and_keeps_docker_running(host):
    host.run("iptables", "-t", "nat", "-F")
    assert host.ask(seconds=1) is None
    docker = host.show("docker", "MainPID")
    host.run("systemctl", "restart", "ec2-role-hook", UNIT)
    assert host.ask() == (200, "exc_web")
    host.run("ec2-role-hook", "status")
    assert host.show("docker", "MainPID") == docker
    assert HOST_ROLE not in host.run("cat", "/var/log/answers").stdout


@pytest.fixture
def second(host):
    """A function that configures and starts a second unit, to which no hook redirects, and returns the unit's name."""
    def start(role="exc_web", address="172.17.0.1:4568", **variables):
        host.configure("second", role, **{"EC2_ROLE_BRIDGE": "", **variables})
        host.put(f"[Socket]\nListenStream=\nListenStream={address}\n",
                 "/etc/systemd/system/ec2-role@second.socket.d/listen.conf")
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "start", "--no-block", "ec2-role@second")
        return "ec2-role@second"

    yield start
    host.run("systemctl", "stop", "ec2-role@second.socket", "ec2-role@second")
    host.run("systemctl", "reset-failed", "ec2-role@second.socket", "ec2-role@second", check=False)
    host.run("rm", "-rf", "/etc/ec2-role/second.conf", "/etc/systemd/system/ec2-role@second.socket.d")
    host.run("systemctl", "daemon-reload")


def test_containers_on_another_bridge_get_only_its_role(host, second):
    # Start the unit before the bridge exists, as at a boot.
    unit = second("fluentd", address="172.18.0.1:4567", EC2_ROLE_BRIDGE="br-two")
    try:
        host.wait_until_active(unit)
        host.run("sh", "-euc", second_bridge())
        ask = host.ask_on_second_bridge
        wait_until(lambda: ask(METADATA + LIST).stdout == "fluentd", what="the other role")
        assert host.ask() == (200, "exc_web")
        assert ask(f"http://172.17.0.1:4567{LIST}").returncode != 0
        assert "br-two → 172.18.0.1:4567 (fluentd)\n" in host.run("ec2-role-hook", "status").stdout
        # Without the firewall rules the connection is accepted, but --same-network refuses the request.
        host.run("iptables", "-F")
        assert ask(f"http://172.17.0.1:4567{LIST}").returncode == HTTP_ERROR
        host.run("systemctl", "restart", "ec2-role-hook", UNIT)
    finally:
        host.run("ec2-role-hook", "remove", "--bridge", "br-two")
        host.run("sh", "-c", "ip netns delete two; ip link delete br-two", check=False)


def test_hook_takes_a_socket_at_every_address_for_its_own(host, second):
    """systemctl calls this socket [::]:4570. ss calls it *:4570, because it accepts IPv4 too."""
    unit = second(address="[::]:4570", EC2_ROLE_BRIDGE="br-two", EC2_ROLE_TO=":4570")
    try:
        host.wait_until_active(unit)
    finally:
        host.run("ec2-role-hook", "remove", "--bridge", "br-two")


def test_unit_serves_and_logs_a_rule_that_bypasses_the_guard(host):
    # Add the rule while the guard is off. The guard's rules then come behind it, because the kernel puts a new rule behind all
    # rules of the same preference.
    host.run("ec2-role-guard", "off")
    host.run("ip", "rule", "add", "pref", "0", "iif", "docker0", "lookup", "main")
    try:
        host.run("systemctl", "restart", UNIT)
        assert host.ask() == (200, "exc_web")
        assert logged_errors(host, UNIT, "bypassed: a rule precedes the guard's, so containers may have the host's role: IPv4 0: from all iif docker0")
    finally:
        host.run("ip", "rule", "delete", "pref", "0", "iif", "docker0", "lookup", "main")


def test_unit_recovers_from_access_denied_without_a_restart(host, second, denied):
    unit = second()
    wait_until(lambda: "AccessDenied" in host.show(unit, "StatusText"), what="the denial")
    assert host.show(unit, "ActiveState", "MainPID")[0] == "activating"
    pid = host.show(unit, "MainPID")
    warnings = host.run("journalctl", "--no-pager", "--output=cat", "--priority=warning", f"--unit={unit}").stdout
    assert all("AccessDenied" in line for line in warnings.splitlines()) and warnings, warnings
    denied()
    host.wait_until_active(unit)
    assert host.show(unit, "MainPID") == pid


def logged_errors(host, unit, about):
    journal = host.run("journalctl", "--no-pager", "--output=cat", "--priority=err", f"--unit={unit}").stdout
    return [line for line in journal.splitlines() if about in line]


def send_requests(host):
    """Sends some requests from the container, whether or not a server responds."""
    host.in_container("sh", "-c", "for _ in 1 2 3 4 5; do curl --silent --max-time 1 http://172.17.0.1:4568/; done", check=False)


@pytest.mark.parametrize("variable, value, remedy", [
    ("EC2_ROLE_DURATION_SECONDS", "soon", "900"),
    ("EC2_ROLE_BRIDGE", "docker 0", "--bridge docker 0: "),
])
def test_invalid_setting_is_logged_once_and_fails_the_unit(host, second, variable, value, remedy):
    unit = second(**{variable: value})
    send_requests(host)
    wait_until(lambda: host.show(unit, "ActiveState") == "failed", what="the failure")
    send_requests(host)
    assert host.show(unit, "ActiveState", "NRestarts") == ["failed", "0"]
    assert len(logged_errors(host, unit, remedy)) == 1, host.events()
    # After the correction a restart is enough, as after any change of the settings; `reset-failed` is not needed.
    host.configure("second", "exc_web", EC2_ROLE_BRIDGE="")
    host.run("systemctl", "restart", unit)
    assert host.show(unit, "ActiveState") == "active"


def test_requests_do_not_start_a_unit_with_a_stopped_socket(host, second):
    unit = second()
    host.wait_until_active(unit)
    host.run("systemctl", "stop", f"{unit}.socket")
    send_requests(host)
    assert host.show(unit, "ActiveState") == host.show(f"{unit}.socket", "ActiveState") == "inactive"


def test_missing_settings_file_is_logged_once_and_fails_unit(host, second):
    unit = second()
    host.wait_until_active(unit)
    host.run("rm", "/etc/ec2-role/second.conf")
    host.run("systemctl", "restart", unit, check=False)
    send_requests(host)
    assert host.show(unit, "ActiveState", "NRestarts") == ["failed", "0"]
    assert len(logged_errors(host, unit, "/etc/ec2-role/second.conf: not there")) == 1, host.events()


def test_setting_made_invalid_while_running_is_logged_once(host, second):
    unit = second()
    host.wait_until_active(unit)
    host.configure("second", "exc_web", EC2_ROLE_BRIDGE="docker 1")
    host.run("kill", "-9", host.show(unit, "MainPID"))
    wait_until(lambda: host.show(unit, "ActiveState") == "failed", what="the failure")
    send_requests(host)
    assert len(logged_errors(host, unit, "--bridge docker 1: ")) == 1, host.events()


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_unit_recovers_after_a_limit_on_processes(host, second, processes):
    """Allows so few processes that the shell of ExecStartPre=, or the hook that it runs, cannot start a program."""
    drop_in = "/run/systemd/system/ec2-role@second.service.d/few.conf"
    host.put("[Service]\nSlice=few.slice\n", drop_in)
    host.run("systemctl", "set-property", "--runtime", "few.slice", f"TasksMax={processes}")
    # The shell says that it cannot fork; newer versions of systemd cannot even start the shell if only one process is allowed.
    failures = lambda: len(re.findall("Cannot fork|Resource temporarily unavailable", host.journal()))
    before = failures()
    try:
        unit = second(EC2_ROLE_BRIDGE="br-two", EC2_ROLE_TO=":4568")
        wait_until(lambda: failures() > before, what="the failure")
        host.run("systemctl", "set-property", "--runtime", "few.slice", "TasksMax=infinity")
        host.wait_until_active(unit)
    finally:
        host.run("systemctl", "set-property", "--runtime", "few.slice", "TasksMax=infinity")
        host.run("rm", drop_in)
        host.run("ec2-role-hook", "remove", "--bridge", "br-two")


def test_start_that_systemd_cannot_run_is_retried(host, second):
    """While /run is full, systemd cannot run ExecStartPre=. ExecStopPost= must not stop the socket then, or systemd would not
    retry. The test plays a full /run with a program of ExecStartPre= that is missing for a time (status 203)."""
    drop_in, program = "/run/systemd/system/ec2-role@second.service.d/missing.conf", "/usr/local/bin/comes-later"
    host.put(f"[Service]\nExecStartPre={program}\n", drop_in)
    try:
        unit = second()
        wait_until(lambda: "status=203/EXEC" in host.journal(), what="the failure")
        host.put("#!/bin/sh\n", program, "0755")
        host.wait_until_active(unit)
    finally:
        host.run("rm", "-f", drop_in, program)


def test_socket_restart_applies_a_changed_address(host, second):
    unit = second()
    host.wait_until_active(unit)
    second(address="172.17.0.1:4569")
    host.run("systemctl", "restart", f"{unit}.socket")
    host.wait_until_active(unit)
    assert host.run("curl", "--silent", "--fail", f"http://172.17.0.1:4569{LIST}").stdout == "exc_web"


def test_unit_waits_for_a_port_that_another_program_uses(host, second):
    own_address = host.run("hostname", "--ip-address").stdout.strip()
    host.run("systemd-run", "--unit=stranger", "python3", "-m", "http.server", "--bind", own_address, "4568")
    try:
        wait_until(lambda: host.run("ss", "-Hltn", "sport = :4568").stdout, what="the stranger's listening")
        unit = second(EC2_ROLE_BRIDGE="br-two", EC2_ROLE_TO=":4568")
        wait_until(lambda: logged_errors(host, unit, "port 4568: something else listens there"), what="the complaint")
        send_requests(host)
        assert host.show(unit, "ActiveState", "NRestarts") == ["activating", "0"]
        assert len(logged_errors(host, unit, "port 4568")) <= 2
    finally:
        host.run("systemctl", "stop", "stranger")
    host.wait_until_active(unit)
    host.run("ec2-role-hook", "remove", "--bridge", "br-two")


def test_a_restart_copies_the_credentials_file_of_the_sample(host, second):
    sample = (SCRIPTS / "ec2-role.conf.sample").read_text().replace("NAME", "second")
    credentials, copy = re.search(r"LoadCredential=aws:(\S+)", sample)[1], re.search(r" AWS_SHARED_CREDENTIALS_FILE=(\S+)", sample)[1]
    assert "systemctl restart ec2-role@second" in sample
    own = host.real_metadata.credential
    host.run("mount", "--make-rshared", "/")  # systemd does so itself on a host that is not a container
    try:
        host.put(f"[Service]\nLoadCredential=aws:{credentials}\n", "/etc/systemd/system/ec2-role@second.service.d/override.conf")
        for key, status in (("AKIDEXAMPLE", "InvalidClientTokenId"), (own["AccessKeyId"], "credential of ")):
            host.put(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {own['SecretAccessKey']}\n"
                     f"aws_session_token = {own['Token']}\n", credentials, "0600")
            unit = second(AWS_SHARED_CREDENTIALS_FILE=copy)
            host.run("systemctl", "restart", "--no-block", unit)
            wait_until(lambda: status in host.show(unit, "StatusText"), what=status)
    finally:
        host.run("rm", "-r", credentials, "/etc/systemd/system/ec2-role@second.service.d")


@pytest.fixture
def credential_process(host, second):
    """A function that starts the second unit with a script as its credential_process, and returns the unit's name."""
    def start(script):
        host.put(script, "/usr/local/bin/credential", "0755")
        host.put("[default]\ncredential_process = /usr/local/bin/credential\n", "/etc/ec2-role/second.aws")
        return second(AWS_CONFIG_FILE="/etc/ec2-role/second.aws", AWS_REGION="us-east-1")

    yield start
    host.run("rm", "/usr/local/bin/credential", "/etc/ec2-role/second.aws")


def test_credential_process_inherits_no_notify_variables(host, credential_process):
    credential_process("#!/bin/sh\nenv | sed 's/=.*//;s/^/has: /' >/dev/stderr\nexit 1\n")
    wait_until(lambda: "has: AWS_CONFIG_FILE" in host.journal(), what="the program's run")
    told = set(re.findall(r"said: has: (\S+)", host.journal()))
    assert "AWS_CONFIG_FILE" in told and not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & told


@pytest.mark.parametrize("need", [
    # More than the AWS CLI uses, 60 to 100 MB.
    'used = 150_000_000 * b"x"',
    # The AWS CLI calls Path.home() when it starts, and caches the credentials of a chain of roles there.
    'import pathlib; (pathlib.Path.home() / ".aws/cli/cache").mkdir(parents=True, exist_ok=True)',
    # Some programs, such as nice(1), lower their own priority. The system call filter forbids it, and they go on after the error.
    'import contextlib, os\nwith contextlib.suppress(PermissionError): os.nice(1)',
], ids=["150 MB", "a home directory", "an error for what is forbidden"])
def test_credential_process_has_what_its_programs_need(host, credential_process, need):
    unit = credential_process(f"""#!/usr/bin/python3
{need}
print('{{"Version": 1, "AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": "secret"}}')
""")
    # STS refuses the key that the program has printed.
    wait_until(lambda: "InvalidClientTokenId" in host.show(unit, "StatusText"), what="the answer of STS")
