"""Runs the commands and compose files of README.md and scripts/README.md, with the test's STS."""

import json
import os
import re
import subprocess

import pytest

from containers import CURL_REFUSED, curl, role_name, start_client
from instance import METADATA, REPOSITORY, firewall, first_in_path, routing, wait_until
from readme import OPERATING, block, command, compose, compose_program, with_test_sts
from real_metadata import LIST
from session import running_engine
from sts import ENDPOINT, arn

pytestmark = pytest.mark.usefixtures("published_images", "ec2_role_image", "aws")

def shell(docker, script, directory, **environment):
    """Runs a script on the instance. `sudo` just runs its command, because the tests are root. An empty tmpfs hides each
    directory into which the script installs. /mnt, in the PATH, has the programs of /usr/local/bin that the tmpfs hides."""
    first_in_path(directory, "sudo", 'exec "$@"')
    prepare = "mount --bind /usr/local/bin /mnt; for d in /usr/local/bin /usr/local/sbin /etc/systemd/system; do mount -t tmpfs tmpfs $d; done"
    return docker.instance.run(
        "unshare", "--mount", "sh", "-euc", f"{prepare}; PATH={directory}:$PATH:/mnt; {environment.pop('before', '')}\n{script}", **environment)


def test_role_network_commands_serve_two_roles_after_install(docker, tmp_path):
    heading = "One role for each network"
    script = "\n".join([block("Install", "sh"), *(with_test_sts(block(heading, "sh", n)) for n in (0, 1, 2))])
    out = shell(docker, script, tmp_path, cwd=REPOSITORY).stdout
    assert "fluentdphp" in out
    assert re.search(r"fluentd +arn:aws:iam::123456789012:role/fluentd +er-fluentd +\S+:4567 +Up", out)
    assert docker.docker("ps", "--all", "--quiet").stdout == ""


def test_quick_start_serves_and_its_undo_restores_the_host(docker, tmp_path):
    start, undo = (with_test_sts(block("Quick start", "sh", n)) for n in (0, 1))
    before = firewall(docker.instance), routing(docker.instance)
    out = shell(docker, f"{block('Install', 'sh')}\n{start}", tmp_path, cwd=REPOSITORY).stdout
    assert out.endswith("\n\nexc_web")
    shell(docker, undo, tmp_path, before=f"PATH={REPOSITORY}/scripts:$PATH")
    assert docker.docker("ps", "--all", "--quiet").stdout == ""
    assert (firewall(docker.instance), routing(docker.instance)) == before


def test_sighup_refresh_keeps_dockers_restart_policy(docker, tmp_path):
    start = with_test_sts(block("Quick start", "sh", 0)).split("\nec2-role-hook")[0]
    signal = command("docker kill").replace("CONTAINER", "ec2-role")
    shell(docker, start, tmp_path)
    shell(docker, signal, tmp_path)
    wait_until(lambda: "SIGHUP: fetching now" in docker.log("ec2-role"), what="the refresh")
    pid = docker.inspect("ec2-role", "{{.State.Pid}}")
    os.kill(int(pid), 9)
    wait_until(lambda: docker.inspect("ec2-role", "{{.State.Pid}}") not in (pid, "0"), what="the restart after a crash")
    shell(docker, signal, tmp_path)
    docker.restart()
    wait_until(lambda: docker.inspect("ec2-role", "{{.State.Running}}") == "true", what="the start with Docker")


def test_quick_start_server_answers_its_bridge_alone(docker, tmp_path):
    # Without the hook, as after a flush of the firewall.
    shell(docker, with_test_sts(block("Quick start", "sh", 0)).split("\nec2-role-hook")[0], tmp_path)
    docker.docker("network", "create", "other")
    clients = [start_client(docker, "--network", network) for network in ("bridge", "other")]
    wait_until(lambda: "credential of" in docker.log("ec2-role"), what="the first credential")
    answers = [curl(docker, client, f"http://172.17.0.1:4567{LIST}", "--fail")[0] for client in clients]
    assert answers == ["exc_web", ""]


def test_larger_address_pool_keeps_docker0s_address():
    pools = re.search(r'`({"default-address-pools".*})`', (REPOSITORY / OPERATING).read_text())[1]
    with running_engine() as engine:
        engine.settings = json.loads(pools)
        engine.restart()
        assert " inet 172.17.0.1/" in engine.instance.run("ip", "-o", "address", "show", "docker0").stdout


def test_hook_section_commands_end_with_status_ok(docker, start_server, tmp_path):
    start_server("exc_web")
    out = shell(docker, block("The hook", "sh", page=OPERATING), tmp_path, before=f"PATH={REPOSITORY}/scripts:$PATH").stdout
    assert out == "ok: docker0 → 172.17.0.1:4567 (exc_web)\n"


def supports_gw_priority(docker):
    engine = docker.docker("version", "--format", "{{.Server.Version}}").stdout
    program = subprocess.run([*compose_program(docker), "version", "--short"], capture_output=True, text=True, check=True).stdout
    return int(engine.split(".")[0]) >= 28 and [int(part) for part in program.lstrip("v").split(".")[:2]] >= [2, 33]


@pytest.mark.parametrize("name", ["fluentd", "z-fluentd"])
def test_compose_service_on_two_networks_gets_role_or_refusal(docker, tmp_path, name):
    docker.instance.run(REPOSITORY / "scripts/ec2-role-network", "create", arn("fluentd"), "--name", name, "--", "--endpoint-url", ENDPOINT)
    text = block("A compose file in a role's network", "yaml", page=OPERATING).replace("fluentd:", f"{name}:")
    knows = supports_gw_priority(docker)
    up = compose(docker, tmp_path, text if knows else re.sub(r" +gw_priority: 1\n", "", text))
    if knows or name < "readme_inside":
        assert up.stdout == "fluentd", up.stdout + up.stderr
    else:
        assert up.returncode == CURL_REFUSED, up.stdout + up.stderr


def test_compose_without_iptables_serves_at_169_254_169_254(docker, tmp_path):
    credential = docker.instance.real_metadata.credential
    source = {"AWS_ACCESS_KEY_ID": credential["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": credential["SecretAccessKey"],
              "AWS_SESSION_TOKEN": credential["Token"]}
    text, endpoint = block("Compose without iptables", "yaml", page=OPERATING), {"EC2_ROLE_ENDPOINT_URL": ENDPOINT}
    assert "export it" in compose(docker, tmp_path, text, endpoint).stderr
    up = compose(docker, tmp_path, text, endpoint, **source)
    assert up.stdout == "exc_web", up.stdout + up.stderr
    # A container that is on `outside` alone gets nothing, even if it knows the server's address there or makes a route by way of it.
    [server] = docker.docker("ps", "--quiet", "--filter", "label=com.docker.compose.service=role").stdout.split()
    address = docker.inspect(server, "{{.NetworkSettings.Networks.readme_outside.IPAddress}}")
    client = start_client(docker, "--network", "readme_outside", "--cap-add", "NET_ADMIN")
    assert curl(docker, client, f"http://{address}{LIST}") == ("", CURL_REFUSED)
    docker.execute(client, "ip", "route", "add", METADATA, "via", address)
    assert role_name(docker, client) is None


def test_container_form_commands_serve_one_container(docker, tmp_path):
    script = with_test_sts(block("The container form", "sh", page=OPERATING))
    started, asked = script.split("AWS_CONTAINER_AUTHORIZATION_TOKEN=")
    shell(docker, started, tmp_path, cwd=tmp_path)
    wait_until(lambda: "credential of" in docker.log("role"), what="the first credential")
    first_in_path(tmp_path, "docker", f'echo "$*" >>{tmp_path}/arguments\nPATH=${{PATH#*:}}\nexec docker "$@"')
    out = shell(docker, f"AWS_CONTAINER_AUTHORIZATION_TOKEN={asked}", tmp_path, cwd=tmp_path).stdout
    assert ":assumed-role/exc_web/" in out
    # Every user of the host can read the arguments of a process.
    arguments, token = ((tmp_path / name).read_text() for name in ("arguments", "token"))
    assert "exc_web" in arguments and token not in arguments
    unauthorised = docker.docker("run", "--rm", "--network", "container:role", "curlimages/curl", "-s", "-o", "/dev/null",
                                 "-w", "%{http_code}", "http://127.0.0.1:4567/v2/credentials/exc_web").stdout
    assert unauthorised == "401"


@pytest.fixture
def home(tmp_path, docker):
    """A user's home directory with ~/.aws, which only that user can read."""
    uid = 1000
    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)
    credential = docker.instance.real_metadata.credential
    (home / ".aws/credentials").write_text(
        f"[default]\naws_access_key_id = {credential['AccessKeyId']}\naws_secret_access_key = {credential['SecretAccessKey']}\n"
        f"aws_session_token = {credential['Token']}\n")
    (home / ".aws/config").write_text("[default]\nregion = us-east-1\n")
    for path in (home / ".aws").iterdir():
        path.chmod(0o600)
        os.chown(path, uid, uid)
    (home / ".aws").chmod(0o700)
    os.chown(home / ".aws", uid, uid)
    return home


def test_laptop_compose_file_uses_the_users_aws_files(docker, home, tmp_path):
    # A laptop has no instance role. The guard hides this instance's role, which ec2-role could use instead of the user's files.
    docker.instance.guard("on")
    up = compose(docker, tmp_path, block("On a laptop", "yaml", page=OPERATING), {"EC2_ROLE_ENDPOINT_URL": ENDPOINT},
                 HOME=str(home), ROLE_UID="1000")
    assert up.stdout == "exc_web", up.stdout + up.stderr
