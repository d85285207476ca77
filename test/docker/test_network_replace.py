"""Tests `ec2-role-network replace`: another role, image or option for a network, without a moment of another role."""

import concurrent.futures
import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from containers import document, metadata, role_name, start_client
from instance import AWS_ADDRESS, first_in_path
from real_metadata import LIST
from role_networks import NETWORK, create, gateway_of, network
from sts import ENDPOINT, arn

pytestmark = pytest.mark.usefixtures("client_image", "ec2_role_image", "aws")

# As another user, tries to take port 4567 of the address in its argument until it succeeds or its stdin is closed.
TAKE = """
import os, select, socket, sys
os.setuid(1000)
while not select.select([sys.stdin], [], [], 0)[0]:
    taker = socket.socket()
    taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        taker.bind((sys.argv[1], 4567))
        sys.exit("taken")
    except OSError:
        taker.close()
"""


def test_replace_keeps_settings_that_are_not_given(docker, aws, tmp_path):
    variables = tmp_path / "variables"
    variables.write_text("EC2_ROLE_ROLE_SESSION_NAME=by-variable\n")
    create(docker, "php", "--env-file", variables)
    container = start_client(docker, "--network", "php")
    first = docker.inspect("ec2-role-php", "{{.Id}}")
    assert aws.whose(document(docker, container)).endswith(":assumed-role/php/by-variable")

    network(docker, "replace", "php")
    second = docker.inspect("ec2-role-php", "{{.Id}}")
    assert second != first
    assert aws.whose(document(docker, container)).endswith(":assumed-role/php/by-variable")

    with concurrent.futures.ThreadPoolExecutor(1) as operators:
        replacing = operators.submit(network, docker, "replace", "php", arn("fluentd"))
        seen = set()
        while not replacing.done():
            seen.add(metadata(docker, container, LIST, "--fail")[0])
        replacing.result()
    assert seen <= {"php", "fluentd", ""}
    assert aws.whose(document(docker, container)).endswith(":assumed-role/fluentd/by-variable")
    assert arn("fluentd") in network(docker, "list").stdout
    # Options after -- replace all earlier ones. So give the endpoint again: without it the new server would get no credential.
    network(docker, "replace", "php", "--", "--endpoint-url", ENDPOINT, "--role-name", "temp")
    assert role_name(docker, container) == "temp"
    assert docker.docker("ps", "--all", "--format", "{{.Names}}").stdout.count("ec2-role") == 1


def test_replace_writes_no_secret_to_dockers_default_log(docker, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(tmp_path / "log"))
        log.settimeout(10)
        docker.settings = {"log-driver": "syslog", "log-opts": {"syslog-address": f"unixgram://{tmp_path}/log"}}
        docker.restart()
        try:
            create(docker, "php")
            network(docker, "replace", "php")
            # This container shows that Docker's default log works. Its line comes last, so the loop below reads up to it.
            docker.docker("run", "--rm", "busybox", "printf", "the last line\n")
            logged = ""
            while "the last line" not in logged:
                logged += log.recv(1 << 16).decode()
        finally:
            docker.settings = {}
            docker.restart()
    assert "SecretAccessKey" not in logged


def test_no_user_can_bind_the_port_while_a_server_is_replaced(docker):
    create(docker, "php")
    container = start_client(docker, "--network", "php")
    end, until_end = os.pipe()
    with concurrent.futures.ThreadPoolExecutor(2) as others:
        taking = others.submit(docker.instance.run, sys.executable, "-c", TAKE, gateway_of(docker, "php"), check=False, stdin=end)
        replacing = others.submit(network, docker, "replace", "php", arn("fluentd"))
        seen = []
        while not replacing.done():
            seen.append(metadata(docker, container, LIST, "--fail")[0])
        os.close(until_end)
        replacing.result()
    os.close(end)
    assert taking.result().stderr == "" and taking.result().returncode == 0
    assert set(seen) == {"php", "fluentd"}


@pytest.mark.parametrize("options, why", [
    (("--http-tokens", "perhaps"), "write optional or required"),
    (("--endpoint-url", "http://127.0.0.1:9"), "Connection refused"),
], ids=["option", "STS"])
def test_replace_keeps_the_old_server_if_the_new_one_fails(docker, options, why):
    create(docker, "php")
    container = start_client(docker, "--network", "php")
    before = docker.inspect("ec2-role-php", "{{.Id}}")
    with concurrent.futures.ThreadPoolExecutor(1) as operators:
        replacing = operators.submit(network, docker, "replace", "php", "--", *options, check=False)
        seen = set()
        while not replacing.done():
            seen.add(metadata(docker, container, LIST, "--fail")[0])
        failed = replacing.result()
    assert seen == {"php"}
    assert failed.returncode == 1 and "php keeps its server" in failed.stderr and why in failed.stderr, failed.stderr
    assert failed.stderr.count("\n") == 1, failed.stderr
    assert docker.inspect("ec2-role-php", "{{.Id}}") == before


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_interrupted_replace_keeps_the_old_server(docker, name):
    """A terminal sends the signal to all processes of the command: SIGINT on Ctrl-C, SIGHUP when the terminal is closed."""
    create(docker, "php")
    before = docker.inspect("ec2-role-php", "{{.Id}}")
    with docker.instance.aws:
        sts = socket.create_server((AWS_ADDRESS, 0))
    with sts:
        sts.settimeout(60)
        with docker.instance.ec2:
            replacing = subprocess.Popen([NETWORK, "replace", "php", "--", "--endpoint-url", f"http://{AWS_ADDRESS}:{sts.getsockname()[1]}"],
                                         start_new_session=True, env=docker.environment)
        _connection = sts.accept()
        os.killpg(replacing.pid, signal.Signals[name])
        assert replacing.wait(5) == 1
    assert docker.inspect("ec2-role-php", "{{.State.Running}} {{.Id}}") == f"true {before}"
    network(docker, "list")


@pytest.mark.parametrize("new_one", [False, True])
def test_replace_can_be_repeated_after_it_was_killed(docker, new_one):
    create(docker, "php")
    container = start_client(docker, "--network", "php")
    docker.docker("stop", "ec2-role-php")
    docker.docker("rename", "ec2-role-php", "ec2-role.before-php")
    if new_one:
        docker.run("--name", "ec2-role-php", "--label", f"ec2-role.arn={arn('php')}", "--network", "host", "ec2-role",
                   "--endpoint-url", ENDPOINT)
    network(docker, "replace", "php")
    assert role_name(docker, container) == "php"
    docker.docker("rm", "--force", container)
    network(docker, "remove", "php")
    assert docker.docker("ps", "--all", "--quiet").stdout == ""


def test_list_names_the_servers_role_after_a_killed_replace(docker):
    create(docker, "php")
    network(docker, "replace", "php", arn("fluentd"))
    docker.docker("stop", "ec2-role-php")
    docker.docker("rename", "ec2-role-php", "ec2-role.before-php")
    listed = network(docker, "list", check=False)
    assert listed.returncode == 1
    assert listed.stderr == f"ec2-role-network: php: its server cannot answer (missing); to repair it: ec2-role-network create {arn('fluentd')} --name php\n"
    network(docker, *listed.stderr.split("ec2-role-network ")[1].split())
    assert arn("fluentd") in network(docker, "list").stdout
    # `remove` takes the old server too.
    docker.docker("rename", "ec2-role-php", "ec2-role.before-php")
    network(docker, "remove", "php")
    assert docker.docker("ps", "--all", "--quiet").stdout == ""


def test_list_reports_the_old_server_that_a_killed_replace_left(docker, tmp_path):
    create(docker, "php")
    path = first_in_path(tmp_path, "docker", f"""
[ "$1 $2" != "stop ec2-role.before-php" ] || {{ kill -KILL $PPID; exit; }}
exec {shutil.which("docker")} "$@"
""")
    killed = docker.instance.run("env", f"PATH={path}", NETWORK, "replace", "php", arn("fluentd"), check=False)
    assert killed.returncode == -signal.SIGKILL
    listed = network(docker, "list", check=False)
    repair = f"ec2-role-network create {arn('fluentd')} --name php"
    assert listed.stderr == f"ec2-role-network: php: its old server may still answer (a killed replace?); to repair it: {repair}\n"
    network(docker, *repair.split()[1:])
    assert docker.docker("ps", "--all", "--format", "{{.Names}}").stdout == "ec2-role-php\n"
    network(docker, "list")


def test_replace_keeps_multi_line_and_empty_values(docker, tmp_path):
    variables = tmp_path / "variables"
    variables.write_text("AWS_NOTE=\nAWS_OTHER=a  b\n")
    # The policy has no spaces, because moto would compute the signature with + in their place.
    policy = '{\n"Version":"2012-10-17",\n"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]\n}\n'
    network(docker, "create", arn("php"), "--env-file", variables, "--", "--endpoint-url", ENDPOINT, "--policy", policy)
    kept = ("{{json .Config.Cmd}}", "{{json .Config.Env}}")
    before = [json.loads(docker.inspect("ec2-role-php", template)) for template in kept]
    network(docker, "replace", "php")
    after = [json.loads(docker.inspect("ec2-role-php", template)) for template in kept]
    assert before[0] == after[0] and policy in after[0] and "AWS_NOTE=" in after[1]
    assert sorted(before[1]) == sorted(after[1])


def test_replace_keeps_variables_of_any_name_and_value(docker, tmp_path):
    """Uses names of the script's own variables, names that docker itself reads, and characters that a shell would expand."""
    given = ["name=other", "engine=lxc", "IFS=/", "DOCKER_HOST=tcp://127.0.0.1:9", "dotted.name=v", "SPACED=  a \"b\" 'c' $(id) \\n %s%%", "EMPTY="]
    variables = tmp_path / "variables"
    variables.write_text("\n".join(given) + "\n")
    create(docker, "php", "--env-file", variables)
    before = sorted(json.loads(docker.inspect("ec2-role-php", "{{json .Config.Env}}")))
    assert set(given) < set(before)
    network(docker, "replace", "php")
    assert sorted(json.loads(docker.inspect("ec2-role-php", "{{json .Config.Env}}"))) == before


def test_replace_keeps_a_variable_that_grep_takes_for_binary(docker, tmp_path):
    """In the locale zh_CN.GBK, GNU grep omits lines in UTF-8. Few hosts have this locale, so the test changes grep instead."""
    variables, grep = tmp_path / "variables", shutil.which("grep")
    variables.write_text("NOTE=é\n")
    create(docker, "php", "--env-file", variables)
    path = first_in_path(tmp_path, "grep", f"""
[ "$LC_ALL" = zh_CN.GBK ] || exec {grep} "$@"
LC_ALL=C sed '/[^ -~]/d' | {grep} "$@"
""")
    docker.instance.run("env", "LC_ALL=zh_CN.GBK", f"PATH={path}", NETWORK, "replace", "php")
    assert "NOTE=é" in json.loads(docker.inspect("ec2-role-php", "{{json .Config.Env}}"))
