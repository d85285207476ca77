"""Tests ec2-role-network: what create, list and remove do, and what they report."""

import concurrent.futures
import json
import os
import shutil
import signal

import pytest

from containers import CURL_REFUSED, curl, metadata, role_name, start_client
from instance import HOOK, firewall, first_in_path, rules, wait_until, with_busybox_flock
from network_namespace import NetworkNamespace
from real_metadata import LIST
from role_networks import NETWORK, create, gateway_of, network
from sts import ENDPOINT, arn

pytestmark = pytest.mark.usefixtures("client_image", "ec2_role_image", "aws")


def test_remove_deletes_network_server_and_hook(docker):
    before = rules(docker.instance), docker.docker("network", "ls", "--quiet").stdout
    create(docker, "fluentd")
    create(docker, "php")
    network(docker, "remove", "fluentd")
    assert docker.instance.hook("status").stdout == f"ok: er-+ → {gateway_of(docker, 'php')}:4567 (php)\n"
    removed = network(docker, "remove", "php")
    assert (rules(docker.instance), docker.docker("network", "ls", "--quiet").stdout) == before
    # `remove` leaves the guard on and prints the command that turns it off.
    assert removed.stderr.endswith("ec2-role-guard off lifts it\n")
    docker.instance.guard("status")
    assert docker.docker("ps", "--all", "--quiet").stdout == ""


def test_a_network_with_any_container_is_not_removed(docker, pair):
    for state in ("running", "stopped"):
        if state == "stopped":
            docker.docker("stop", "--time", "0", pair["php"])
        refused = network(docker, "remove", "php", check=False)
        assert refused.returncode == 1 and "php: still has" in refused.stderr
    docker.docker("start", pair["php"])
    assert role_name(docker, pair["php"]) == "php"


def test_remove_finds_a_container_beside_a_network_with_a_space(docker):
    create(docker, "php")
    docker.docker("network", "create", "a network")
    container = docker.docker("create", "--network", "a network", "busybox", "true").stdout.strip()
    docker.docker("network", "connect", "php", container)
    refused = network(docker, "remove", "php", check=False)
    assert refused.returncode == 1 and "php: still has" in refused.stderr


@pytest.mark.parametrize("step", ["network gone", "server gone"])
def test_remove_deletes_the_rest_of_an_interrupted_command(docker, step):
    create(docker, "php")
    docker.docker(*(("network", "rm", "php") if step == "network gone" else ("rm", "--force", "ec2-role-php")))
    network(docker, "remove", "php")
    assert docker.docker("ps", "--all", "--quiet").stdout == "" and "EC2-ROLE" not in firewall(docker.instance)
    create(docker, "php")


def test_server_that_cannot_bind_its_port_is_reported(docker):
    create(docker, "php")
    container = start_client(docker, "--network", "php")
    docker.docker("stop", "ec2-role-php")
    address = f"EC2_ROLE_LISTEN={gateway_of(docker, 'php')}:4567"
    other = docker.run("--network", "host", "--env", address, "ec2-role", "--endpoint-url", ENDPOINT, arn("fluentd"))
    wait_until(lambda: role_name(docker, container) == "fluentd", what="the program that took the port")
    assert "php: its server cannot answer (Exited" in network(docker, "list", check=False).stderr
    for command in (("replace", "php"), ("create", arn("php")), ("list",)):
        failed = network(docker, *command, check=False)
        assert failed.returncode == 1 and "the address is in use; stop what listens there" in failed.stderr, failed.stderr
        assert docker.inspect("ec2-role-php", "{{.State.Running}}") == "true", command
    docker.docker("rm", "--force", other)
    wait_until(lambda: role_name(docker, container) == "php", what="the server, which waited for its port")
    network(docker, "list")


def test_no_network_is_made_if_another_program_has_its_port(docker):
    docker.run("--network", "host", "--env", "EC2_ROLE_LISTEN=0.0.0.0:4567", "ec2-role", "--endpoint-url", ENDPOINT, arn("fluentd"))
    failed = create(docker, "php", check=False)
    assert failed.returncode == 1 and "the address is in use; stop what listens there" in failed.stderr, failed.stderr
    assert "php" not in docker.docker("network", "ls").stdout + docker.docker("ps", "--all", "--format", "{{.Names}}").stdout


@pytest.mark.parametrize("verb, command", [
    ("list", "network ls --filter"), ("list", "ps --all --filter"), ("remove", "network ls --filter"), ("remove", "ps --all --filter"),
    ("remove", "ps --all --format"), ("replace", "Config.Env"), ("replace", "Config.Cmd"),
])
def test_engine_failure_is_reported_and_loses_nothing(docker, tmp_path, verb, command):
    variables = tmp_path / "variables"
    variables.write_text("EC2_ROLE_ROLE_NAME=temp\n")
    create(docker, "php", "--env-file", variables)
    container = docker.docker("create", "--network", "php", "busybox", "true").stdout.strip()
    failed, environment = tmp_path / "failed", docker.instance.environment
    path = first_in_path(tmp_path, "docker", f"""
case $* in *'{command}'*) [ -e {failed} ] || {{ touch {failed}; exit 1; }} ;; esac
exec {shutil.which("docker")} "$@"
""")
    docker.instance.environment = {**environment, "PATH": path}
    try:
        first = network(docker, verb, *([] if verb == "list" else ["php"]), check=False)
    finally:
        docker.instance.environment = environment
    assert first.returncode == 1 and "ec2-role-network: docker failed; the reason is above" in first.stderr
    settings = docker.inspect("ec2-role-php", "{{.State.Running}} {{.Config.Env}} {{.Config.Cmd}}")
    assert "true" in settings and "EC2_ROLE_ROLE_NAME=temp" in settings and ENDPOINT in settings
    assert "php" in network(docker, "list").stdout
    docker.docker("rm", container)


def test_list_distinguishes_a_missing_guard_and_missing_rules(docker):
    create(docker, "php")
    docker.instance.ec2.run("iptables", "-t", "nat", "-F", "PREROUTING")
    try:
        listed = network(docker, "list", check=False)
        assert listed.returncode == 1 and "NOT ok: IPv4, table nat: not all rules of the hook are there" in listed.stderr
        docker.instance.guard("off")
        listed = network(docker, "list", check=False)
        assert listed.returncode == 1
        assert "NOT ok: ec2-role-guard: off: 169.254.169.254 is not refused: containers may have the host's role" in listed.stderr
    finally:
        docker.restart()


@pytest.mark.parametrize("enabled", [True, False])
def test_create_warns_if_the_guards_unit_is_not_enabled(docker, tmp_path, enabled):
    path = first_in_path(tmp_path, "systemctl", f'[ "$*" != "is-enabled --quiet ec2-role-guard.service" ] || exit {0 if enabled else 1}')
    created = docker.instance.run("env", f"PATH={path}", NETWORK, "create", arn("php"), "--", "--endpoint-url", ENDPOINT)
    assert ("systemctl enable --now ec2-role-guard ec2-role-hook" in created.stderr) != enabled


def test_the_server_is_confined_and_named_after_the_network(docker):
    create(docker, "fluentd", "--name", "a-name-that-is-too-long-for-an-interface")
    server = json.loads(docker.docker("inspect", "ec2-role-a-name-that-is-too-long-for-an-interface").stdout)[0]
    assert server["Config"]["StopSignal"] == "TERM"  # from the script, for images that set none; ours sets SIGTERM
    settings = server["HostConfig"]
    assert settings["ReadonlyRootfs"] and settings["CapDrop"] == ["ALL"] and settings["Memory"] == 64 << 20
    assert settings["SecurityOpt"] == ["no-new-privileges"] and settings["PidsLimit"] == 32
    assert settings["LogConfig"] == {"Type": "local", "Config": {"max-file": "2", "max-size": "5m"}}
    assert settings["NetworkMode"] == "host" and settings["RestartPolicy"]["Name"] == "always"
    container = start_client(docker, "--network", "a-name-that-is-too-long-for-an-interface")
    assert role_name(docker, container) == "fluentd"


@pytest.mark.parametrize("arguments, complaint", [
    (("create",), "say which role"),
    (("create", "exc_web"), "is not a role's ARN: it does not begin with \"arn:\""),
    (("create", arn("php"), "--", "--no-such-option"), "--no-such-option: no such option"),
    (("create", "arn:aws:iam::123456789012:role/with+plus"), "give another with --name"),
    (("create", arn("php"), "--name", "host"), "the engine's own"),
    (("create", arn("php"), arn("fluentd")), "one role at a time"),
    (("create", arn("php"), "--env-file", "/none"), "cannot be read"),
    (("remove",), "say which network"),
    (("replace",), "say which network"),
    (("make",), "not a command"),
    (("create", "--no-such-option"), "not an option of create; write ec2-role's own after --"),
    (("create", "--name=web"), "write the value as a word of its own"),
])
def test_invalid_arguments_are_reported_in_one_line(docker, arguments, complaint):
    refused = network(docker, *arguments, check=False)
    assert refused.returncode == 2 and complaint in refused.stderr and len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments, complaint", [
    (("create", arn("php"), "--image", "no-such-image"), "no-such-image: no such image here"),
    (("create", arn("php"), "--", "--http-tokens", "perhaps"), "the server ended"),
    (("remove", "none-such"), "no network of ec2-role-network has this name"),
    (("replace", "none-such"), "no network of ec2-role-network has this name"),
])
def test_failed_command_is_undone_and_reported(docker, arguments, complaint):
    before = rules(docker.instance), docker.docker("network", "ls", "--quiet").stdout
    refused = network(docker, *arguments, check=False)
    assert refused.returncode == 1 and complaint in refused.stderr
    assert (rules(docker.instance), docker.docker("network", "ls", "--quiet").stdout) == before
    assert docker.docker("ps", "--all", "--quiet").stdout == ""


def test_network_without_ipv4_is_undone_and_reported(docker, tmp_path):
    """Plays Docker 28, which makes networks without IPv4 if default-network-opts in daemon.json says so."""
    path = first_in_path(tmp_path, "docker", f"""
case $* in *'{{{{range .IPAM.Config}}}}'*) echo fd00::/64,fd00::1 ;; *) exec {shutil.which("docker")} "$@" ;; esac
""")
    failed = docker.instance.run("env", f"PATH={path}", NETWORK, "create", arn("php"), check=False)
    assert failed.returncode == 1 and "php: the network has no IPv4 subnet" in failed.stderr, failed.stderr
    assert docker.docker("network", "ls", "--quiet", "--filter", "label=ec2-role.arn").stdout == ""


def test_role_arn_without_an_account_is_accepted(docker):
    role = "arn:aws:iam:::role/web"
    network(docker, "create", role, "--", "--endpoint-url", ENDPOINT)
    assert role_name(docker, start_client(docker, "--network", "web")) == "web"
    network(docker, "replace", "web", role)


def test_each_command_takes_the_iptables_variant_of_create(docker):
    variant = ("--iptables", "iptables-nft")
    create(docker, "php", *variant)
    network(docker, "replace", "php", *variant)
    assert network(docker, "list", *variant).stderr == ""
    network(docker, "remove", "php", *variant)
    assert "EC2-ROLE" not in firewall(docker.instance, "iptables-nft")


def test_pruned_network_is_reported_and_recreated(docker):
    create(docker, "php")
    container = start_client(docker, "--network", "php", "--network-alias", "web")
    gateway = gateway_of(docker, "php")
    docker.docker("stop", "--time", "0", container)
    docker.docker("network", "prune", "--force")
    listed = network(docker, "list", check=False)
    assert listed.returncode == 1 and f"php: its network is gone (docker network prune?); to repair it: ec2-role-network create {arn('php')} --name php" in listed.stderr
    create(docker, "php")
    assert gateway_of(docker, "php") == gateway and network(docker, "list").stderr == ""
    docker.docker("start", container)
    assert role_name(docker, container) == "php"
    assert docker.execute(container, "getent", "hosts", "web").stdout != ""


def test_subnet_of_a_pruned_network_taken_by_another_is_reported(docker):
    create(docker, "php")
    container = start_client(docker, "--network", "php")
    gateway = gateway_of(docker, "php")
    subnet = docker.docker("network", "inspect", "php", "--format", "{{(index .IPAM.Config 0).Subnet}}").stdout.strip()
    docker.docker("stop", "--time", "0", container)
    docker.docker("network", "prune", "--force")
    docker.docker("network", "create", "--subnet", subnet, "other")
    failed = create(docker, "php", check=False)
    remedy = f"If another network has the subnet {subnet} of its server: ec2-role-network remove php, and create it again\n"
    assert failed.returncode == 1 and failed.stderr.endswith(remedy), failed.stderr
    # The server of php still listens at this gateway address, which the other network has now. The hook closes the server's port.
    other = start_client(docker, "--network", "other")
    assert curl(docker, other, f"http://{gateway}:4567{LIST}") == ("", CURL_REFUSED)
    create(docker, "fluentd")
    network(docker, "remove", "fluentd")
    assert curl(docker, other, f"http://{gateway}:4567{LIST}") == ("", CURL_REFUSED)
    network(docker, "remove", "php")
    create(docker, "php")
    docker.docker("start", container)
    assert role_name(docker, container) == "php"


def test_pruned_network_keeps_the_priority_of_its_containers(docker):
    """The container gets php's role, because php has the highest gw_priority. By name, the network `inside` would come first."""
    if docker.docker("version", "--format", "{{.Server.APIVersion}}").stdout < "1.48":
        pytest.skip("this Docker has no gw_priority")
    create(docker, "php")
    docker.docker("network", "create", "inside")
    container = docker.docker("create", "--network", "inside", "--network", "name=php,gw-priority=1", "client", "sleep", "600").stdout.strip()
    docker.docker("network", "rm", "php")
    create(docker, "php")
    docker.docker("start", container)
    assert role_name(docker, container) == "php"


def test_create_with_a_bypassed_guard_says_that_it_made_nothing(docker):
    rule = ("pref", "0", "iif", "docker0", "lookup", "main")
    docker.instance.ec2.run("ip", "rule", "add", *rule)
    failed = create(docker, "php", check=False)
    docker.instance.ec2.run("ip", "rule", "del", *rule)
    docker.instance.guard("off")
    assert failed.returncode == 1 and "ec2-role-guard: bypassed" in failed.stderr, failed.stderr
    assert "ec2-role-network: php: no network or server was made or started; the reason is above\n" in failed.stderr, failed.stderr
    assert docker.docker("ps", "--all", "--quiet").stdout == "" and "EC2-ROLE" not in firewall(docker.instance)


def test_create_reports_a_network_pruned_during_its_wait(docker):
    """A network without containers is pruned even while create waits for the first credential."""
    with concurrent.futures.ThreadPoolExecutor(1) as operators:
        creating = operators.submit(network, docker, "create", arn("php"), "--", "--endpoint-url", "http://127.0.0.1:9", check=False)
        wait_until(lambda: "ec2-role-php" in docker.docker("ps", "--format", "{{.Names}}").stdout, what="the server's start")
        docker.docker("network", "prune", "--force")
        failed = creating.result()
    assert failed.returncode == 1 and "php is not made: its network is gone (docker network prune?); run this again" in failed.stderr, failed.stderr
    assert docker.docker("ps", "--all", "--quiet").stdout == "" and "EC2-ROLE" not in firewall(docker.instance)


@pytest.mark.parametrize("broken, state", [
    (("stop", "--time", "0", "ec2-role-php"), "Exited"),
    (("rm", "--force", "ec2-role-php"), "missing"),
    (("pause", "ec2-role-php"), "Up"),
], ids=["stopped", "removed", "paused"])
def test_stopped_or_removed_server_is_reported_and_restored(docker, broken, state):
    create(docker, "php")
    container = start_client(docker, "--network", "php")
    docker.docker(*broken)
    listed = network(docker, "list", check=False)
    assert listed.returncode == 1 and f"php: its server cannot answer ({state}" in listed.stderr
    assert f"; to repair it: ec2-role-network create {arn('php')} --name php\n" in listed.stderr
    assert ("its options are lost, and its role if replace changed it" in listed.stderr) == (state == "missing")
    create(docker, "php")
    assert role_name(docker, container) == "php" and network(docker, "list").stderr == ""
    # `create` refuses a network whose server has another role, and does not take it over.
    refused = network(docker, "create", arn("fluentd"), "--name", "php", check=False)
    assert refused.returncode == 1 and f"with another role; take another --name, or: ec2-role-network replace php {arn('fluentd')}" in refused.stderr


def test_create_reports_options_that_a_running_server_does_not_have(docker, tmp_path):
    variables = tmp_path / "variables"
    variables.write_text("EC2_ROLE_HTTP_TOKENS=required\n")
    create(docker, "php")
    kept = "php: its server keeps the options and variables that it has; to change them: ec2-role-network replace php ..."
    assert kept not in create(docker, "php").stderr and kept not in network(docker, "create", arn("php")).stderr
    assert kept in network(docker, "create", arn("php"), "--", "--endpoint-url", ENDPOINT, "--http-tokens", "required").stderr
    assert kept in create(docker, "php", "--env-file", variables).stderr


def test_list_reports_every_fault(docker):
    for name in ("a", "b", "c"):
        create(docker, "php", "--name", name)
    docker.docker("stop", "--time", "0", "ec2-role-a", "ec2-role-b")
    docker.instance.guard("off")
    listed = network(docker, "list", check=False)
    docker.instance.guard("on")
    said = [line.removeprefix("ec2-role-network: ") for line in listed.stderr.splitlines()]
    assert listed.returncode == 1 and len(said) == 3, listed.stderr
    for line, fault in zip(said, ("a: its server cannot answer (Exited", "b: its server cannot answer (Exited", "NOT ok: ec2-role-guard: off: "), strict=True):
        assert line.startswith(fault), listed.stderr


def test_list_reports_a_server_without_a_credential(docker):
    network(docker, "create", arn("php"), "--", "--endpoint-url", "http://127.0.0.1:9", check=False)
    listed = network(docker, "list", check=False)
    assert listed.returncode == 1 and "ec2-role runs, and has no valid credential; its log says why (docker logs ec2-role-php)\n" in listed.stderr, listed.stderr


def test_a_role_networks_server_has_no_health_check(docker):
    """With a health check, the engine would start a program for each network every 5 s."""
    create(docker, "php")
    assert docker.inspect("ec2-role-php", "{{.Config.Healthcheck.Test}}") == "[NONE]"
    network(docker, "replace", "php", "--", "--endpoint-url", ENDPOINT)
    assert docker.inspect("ec2-role-php", "{{.Config.Healthcheck.Test}}") == "[NONE]"


def test_region_discovery_works_and_a_request_is_no_event(docker):
    create(docker, "php")
    container = start_client(docker, "--network", "php")
    wait_until(lambda: metadata(docker, container, "/latest/meta-data/placement/region", "--fail")[0] == "us-east-1", what="the region")
    # `list` must not take a request's log line for a fault, whatever the container writes into it.
    send = "import socket; s = socket.create_connection(('169.254.169.254', 80)); s.send(b'GET /the address is in use; HTTP/1.1\\r\\n\\r\\n'); s.recv(1)"
    docker.execute(container, "python3", "-c", send)
    wait_until(lambda: "the address is in use;" in docker.log("ec2-role-php").splitlines()[-1], what="the log line")
    assert network(docker, "list").stderr == ""


def test_env_file_may_be_a_pipe(docker):
    """In a shell, `--env-file <(sops decrypt variables)` names a pipe, which can be read only once."""
    for verb, role, options in ("create", arn("php"), ("--", "--endpoint-url", ENDPOINT)), ("replace", "php", ()):
        given = f'exec "$0" "$1" --env-file <(echo EC2_ROLE_ROLE_NAME={verb}d) "${{@:2}}"'
        docker.instance.run("bash", "-c", given, NETWORK, verb, role, *options)
        assert f"EC2_ROLE_ROLE_NAME={verb}d" in docker.inspect("ec2-role-php", "{{.Config.Env}}")


def test_variables_for_dockers_images_have_no_effect(docker, monkeypatch):
    """The CIS benchmark asks for DOCKER_CONTENT_TRUST=1. With it, Docker looks for the image in a registry, in vain."""
    monkeypatch.setattr(docker.instance, "environment", {**docker.environment, "DOCKER_CONTENT_TRUST": "1", "DOCKER_DEFAULT_PLATFORM": "linux/s390x"})
    create(docker, "php")
    network(docker, "replace", "php")
    assert network(docker, "list").stderr == ""


def test_engine_on_another_host_is_refused(docker):
    """DOCKER_HOST or a context can name an engine on another host. The containers would run on that host and have its role,
    because the hook would be on this host."""
    before = docker.docker("network", "ls", "--quiet").stdout
    here = NetworkNamespace("here")
    try:
        refused = here.run(NETWORK, "create", arn("php"), "--", "--endpoint-url", ENDPOINT, check=False, env=docker.environment)
    finally:
        here.remove()
    assert refused.returncode == 1 and "er-php: docker makes networks elsewhere" in refused.stderr, refused.stderr
    assert docker.docker("network", "ls", "--quiet").stdout == before and docker.docker("ps", "--all", "--quiet").stdout == ""


def test_clock_set_back_does_not_prolong_the_wait(docker, tmp_path):
    path = first_in_path(tmp_path, "date", f"read -r now <{tmp_path}/now; echo $now; echo $((now - 60)) >{tmp_path}/now")
    (tmp_path / "now").write_text("1800000000\n")
    created = docker.instance.run("env", f"PATH={path}", NETWORK, "create", arn("php"), "--", "--endpoint-url", "http://127.0.0.1:9", check=False)
    assert created.returncode == 1 and "php is made, but has no credential yet" in created.stderr


def test_server_that_was_restarted_earlier_counts_as_running(docker):
    no_sts = ("--", "--endpoint-url", "http://127.0.0.1:9")
    network(docker, "create", arn("php"), *no_sts, check=False)
    os.kill(int(docker.inspect("ec2-role-php", "{{.State.Pid}}")), signal.SIGKILL)
    wait_until(lambda: docker.inspect("ec2-role-php", "{{.State.Running}} {{.RestartCount}}") == "true 1", what="the server's restart")
    again = network(docker, "create", arn("php"), *no_sts, check=False)
    assert again.returncode == 1 and "php is made, but has no credential yet" in again.stderr, again.stderr


def test_flock_of_busybox_is_reported(docker, tmp_path):
    refused = docker.instance.run("env", with_busybox_flock(tmp_path), NETWORK, "create", arn("php"), check=False)
    assert refused.returncode == 1 and "flock: not found, or not that of util-linux" in refused.stderr and refused.stderr.count("\n") == 1


def test_hook_that_is_not_beside_the_script_is_found_in_the_path(docker, tmp_path):
    alone = shutil.copy(NETWORK, tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ec2-role-hook").symlink_to(HOOK)
    docker.instance.run("env", f"PATH={tmp_path}/bin:{docker.environment['PATH']}", alone, "list")


def test_foreign_container_with_the_servers_name_is_kept(docker):
    create(docker, "php")
    docker.docker("rm", "--force", "ec2-role-php")
    theirs = docker.run("--name", "ec2-role-php", "busybox", "sleep", "60")
    for command in (("replace", "php"), ("create", arn("php"))):
        refused = network(docker, *command, check=False)
        assert refused.returncode == 1 and "ec2-role-php" in refused.stderr, refused.stderr
    listed = network(docker, "list", check=False)
    assert listed.returncode == 1 and "php: its server cannot answer (missing), " in listed.stderr
    network(docker, "remove", "php")
    assert docker.inspect(theirs, "{{.State.Running}} {{.Name}}") == "true /ec2-role-php"


def test_network_name_may_be_a_prefix_of_another_networks_id(docker):
    name = docker.docker("network", "inspect", "bridge", "--format", "{{.Id}}").stdout[:3]
    create(docker, "php", "--name", name)
    assert role_name(docker, start_client(docker, "--network", name)) == "php"


def test_dot_in_a_network_name_matches_only_a_dot(docker):
    for name in ("web-a", "web.a"):
        create(docker, "php", "--name", name)
    docker.docker("stop", "ec2-role-web-a")
    states = {line.split()[0]: line.split()[4] for line in network(docker, "list", check=False).stdout.splitlines()[1:]}
    assert states == {"web-a": "Exited", "web.a": "Up"}


def test_list_reports_a_labelled_network_without_a_server(docker):
    create(docker, "php")
    docker.docker("network", "create", "--label", "ec2-role.arn=none", "--subnet", "10.66.0.0/24", "another")
    listed = network(docker, "list", check=False)
    assert listed.returncode == 1 and "another" in listed.stdout and f"{arn('php')} " in listed.stdout
    assert listed.stderr == "ec2-role-network: another: its server cannot answer (missing), its options are lost, and its role if replace changed it; to repair it: ec2-role-network create none --name another\n"
