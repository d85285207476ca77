"""Tests the user-data on a minimal host: it installs all or nothing, and no container gets the host's role."""

import contextlib
import gzip
import itertools
import re
import shutil
import subprocess
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest
import yaml

from host import SCRIPTS, Host, second_bridge
from instance import AWS_ADDRESS, first_in_path, wait_until
from real_metadata import HOST_ROLE
from release import Release, user_data
from sts import arn

MAX_BYTES = 16384
# Options with a URL that no test fetches.
RELEASE = ("--url", "http://x/x86_64", "--sha256", "0" * 64)
INSTALLED = ["/usr/local/bin/ec2-role", "/usr/local/sbin/ec2-role-guard", "/usr/local/sbin/ec2-role-hook", "/etc/systemd/system/ec2-role@.service",
             "/etc/ec2-role/web.conf"]


@pytest.fixture(scope="module")
def release(engine):
    with Release(engine.instance.aws) as release:
        yield release.url, release.sum


def boot_with(host, document):
    host.install_docker()
    host.run("systemctl", "enable", "docker")
    host.give_user_data(document)
    host.reboot()
    host.run("cloud-init", "status", "--wait", check=False)


def log(host):
    return host.run("cat", "/var/log/cloud-init-output.log", check=False).stdout


def answers(host):
    return host.run("cat", "/var/log/answers").stdout.splitlines()


def exists(host, path):
    return host.run("test", "-e", path, check=False).returncode == 0


def assert_no_temporary_files(host):
    assert host.run("find", "/usr/local", "/etc", "-name", "*.ec2-role-new").stdout == ""
    assert host.run("find", "/var/tmp", "-name", "ec2-role.*").stdout == ""


def assert_nothing_is_installed(host):
    assert [path for path in INSTALLED if exists(host, path)] == []
    assert_no_temporary_files(host)


def assert_nothing_is_installed_and_the_guard_stays(host):
    assert_nothing_is_installed(host)
    assert host.ask(seconds=1) is None
    wait_until(lambda: answers(host), what="the container's first answer")
    assert HOST_ROLE not in answers(host)


def test_user_data_is_valid_and_within_ec2s_size_limit(host, release):
    document = user_data(*release, "--role", f"fluentd={arn('fluentd')}@br-fluentd",
                         "--url", "https://example.com/ec2-role-other-arm64.tar.gz", "--sha256", "0" * 64)
    print(f"user-data: {len(document)} bytes of at most {MAX_BYTES}")
    assert len(document) <= MAX_BYTES
    host.put(document, "/tmp/user-data")
    result = host.run("cloud-init", "schema", "--config-file", "/tmp/user-data")
    # The output is "Valid cloud-config" from an older cloud-init, and "Valid schema" from a newer one.
    assert "Valid " in result.stdout and "Warning" not in result.stdout + result.stderr


def test_user_data_embeds_the_guard_without_its_comments(release):
    command = yaml.safe_load(user_data(*release))["bootcmd"][0]
    start, end = "<<'END-OF-GUARD'\n", "END-OF-GUARD\n"
    lines = (SCRIPTS / "ec2-role-guard").read_text().splitlines(keepends=True)
    code = (re.sub(" +# .*", "", line) for line in lines if not line.lstrip().startswith("# "))
    assert command.partition(start)[2].partition(end)[0] == "".join(code)


def test_no_container_sees_the_hosts_role_from_the_first_boot(fresh_host, release):
    host = fresh_host
    boot_with(host, user_data(*release))
    host.wait_until_active("ec2-role@web")
    host.wait_until_served()
    wait_until(lambda: "exc_web" in answers(host), what="the role in the container")
    assert HOST_ROLE not in answers(host)
    assert host.show("ec2-role-hook", "ActiveState") == "active"
    assert host.show("ec2-role-guard", "ActiveState", "UnitFileState") == ["active", "enabled"]
    assert "docker0 → 172.17.0.1:4567 (exc_web)\n" in host.run("ec2-role-hook", "status").stdout
    assert host.run("stat", "--format=%a", "/etc/ec2-role/web.conf").stdout == "600\n"
    # The script can run again while containers run, and the result survives a boot.
    docker, supervisor = host.show("docker", "MainPID"), host.show("ec2-role@web", "MainPID")
    with host.under_load():
        host.run("sh", "/etc/ec2-role/install")
        host.wait_until_active("ec2-role@web")
    assert host.show("ec2-role@web", "MainPID") != supervisor
    assert host.show("docker", "MainPID") == docker
    host.reboot()
    host.wait_until_served()
    assert HOST_ROLE not in answers(host)


def test_compressed_document_has_room_for_many_roles(fresh_host, release, tmp_path):
    names = [f"role-{number}" for number in range(20)]
    printed = user_data(*release, *(word for name in names for word in ("--role", f"{name}={arn(name)}@br-{name}")), check=False)
    assert "compress it with gzip" in printed.stderr and printed.returncode == 0
    document = tmp_path / "user-data.gz"
    document.write_bytes(gzip.compress(printed.stdout.encode()))
    assert len(printed.stdout) > MAX_BYTES > document.stat().st_size
    boot_with(fresh_host, document)
    fresh_host.wait_until_served()
    assert HOST_ROLE not in answers(fresh_host)
    assert all(fresh_host.show(f"ec2-role@{name}.socket", "ActiveState") == "active" for name in names)


def test_image_with_disabled_sockets_serves_only_the_new_role(fresh_host, release):
    host = fresh_host
    boot_with(host, user_data(*release))
    host.wait_until_served()
    host.run("sh", "-c", "systemctl disable ec2-role@web.socket; >/var/log/answers")
    host.put("instance-id: i-of-the-image\n", "/var/lib/cloud/seed/nocloud/meta-data")
    host.put(user_data(*release).replace(arn("exc_web"), arn("php")), "/var/lib/cloud/seed/nocloud/user-data")
    host.reboot()
    host.run("cloud-init", "status", "--wait", check=False)
    host.wait_until_served("php")
    assert not {"exc_web", HOST_ROLE} & set(answers(host))


def test_document_adds_to_the_earlier_parts_of_a_message(fresh_host, release):
    """By default, cloud-init runs only the commands of the last part that has such a list."""
    host = fresh_host
    own = ["/etc/own-bootcmd", "/etc/own-runcmd", "/etc/own-file"]
    others = f"#cloud-config\nbootcmd: [touch {own[0]}]\nruncmd: [touch {own[1]}]\nwrite_files: [{{path: {own[2]}, content: own}}]\n"
    message = MIMEMultipart()
    for document in others, user_data(*release):
        message.attach(MIMEText(document, "cloud-config", "us-ascii"))
    boot_with(host, message.as_string())
    host.wait_until_served()
    host.run("ec2-role-guard", "status")
    assert all(exists(host, path) for path in own)
    wait_until(lambda: "exc_web" in answers(host), what="the role in the container")
    assert HOST_ROLE not in answers(host)


def test_wrong_checksum_installs_nothing_and_logs_one_line(fresh_host, release):
    host = fresh_host
    url, _ = release
    boot_with(host, user_data(url, "0" * 64))
    wait_until(lambda: "ec2-role:" in host.console(), what="the line in the console log")
    for where in log(host), host.console():
        said = [line for line in where.splitlines() if "ec2-role:" in line]
        assert len(said) == 1 and "NOT INSTALLED" in said[0] and f"has not the sum {'0' * 64}" in said[0], where
    assert_nothing_is_installed_and_the_guard_stays(host)


def test_unreachable_release_or_full_disk_installs_nothing(fresh_host, release):
    host = fresh_host
    unreachable = f"http://{AWS_ADDRESS}:1/ec2-role-x86_64.tar.gz"
    boot_with(host, user_data(unreachable, "0" * 64))
    assert f"NOT INSTALLED: {unreachable} could not be fetched" in log(host)
    assert_nothing_is_installed_and_the_guard_stays(host)

    with mounted(host, "/usr/local/bin", "size=1M"):
        assert "NOT INSTALLED: /usr/local/bin/ec2-role could not be written; if the disk is full, free space" in install(host, release)
    assert_nothing_is_installed_and_the_guard_stays(host)

    assert "ec2-role: installed" in install(host, release)
    host.wait_until_served()


def install(host, release, *more, path="$PATH"):
    """Runs the user-data's script by hand and returns its output."""
    host.put(yaml.safe_load(user_data(*release, *more))["write_files"][0]["content"], "/tmp/install")
    return host.run("sh", "-c", f"PATH={path} sh /tmp/install 2>&1", check=False).stdout


@contextlib.contextmanager
def mounted(host, directory, options):
    """Mounts a tmpfs with these options, such as a small size, on the directory during the block."""
    host.run("mkdir", "-p", directory)
    host.run("mount", "-t", "tmpfs", "-o", options, "tmpfs", directory)
    try:
        yield
    finally:
        host.run("umount", directory)


def path_without(host, *programs):
    """A PATH with all programs except these."""
    directory = "/opt/without-" + "-".join(programs)
    host.run("sh", "-euc", f"mkdir -p {directory}; ln -sf /usr/bin/* /usr/sbin/* {directory}; cd {directory}; rm {' '.join(programs)}")
    return directory


@pytest.fixture(scope="module")
def bare_host(engine, aws):
    """A host on which nothing is installed, shared by the tests that leave it so."""
    with Host(engine) as host:
        yield host
        assert_nothing_is_installed(host)


@pytest.mark.parametrize("directory, options, said", [
    ("/var/tmp", "size=64k", "could not be fetched"),
    ("/var/tmp", "size=2000k", "if the disk is full, free space"),
    ("/etc/systemd/system/ec2-role@web.socket.d", "nr_inodes=1", "/etc/systemd/system/ec2-role@web.socket.d/user-data.conf could not be written"),
    ("/etc/ec2-role", "nr_inodes=1", "/etc/ec2-role/web.conf could not be written; if the disk is full, free space"),
    ("/usr/local/bin", "noexec", "the binary does not run here: "),
])
def test_full_or_noexec_disk_leaves_no_partial_install(bare_host, release, directory, options, said):
    with mounted(bare_host, directory, options):
        lines = [line for line in install(bare_host, release).splitlines() if line.startswith("ec2-role: ")]
        assert len(lines) == 1 and "NOT INSTALLED: " in lines[0] and said in lines[0], lines
        assert_no_temporary_files(bare_host)


def test_incomplete_release_installs_nothing(engine, bare_host):
    with Release(engine.instance.aws, without="ec2-role-hook.service") as other:
        said = install(bare_host, (other.url, other.sum))
    assert "ec2-role-hook.service" in said and "ec2-role: NOT INSTALLED: a command failed; the reason is above" in said
    assert_nothing_is_installed(bare_host)


@pytest.mark.parametrize("other", ["curl", "wget"])
def test_the_query_of_a_presigned_url_is_not_logged(bare_host, release, other):
    """A URL's query can open a private bucket, so it must not be in the console log, which other people may read."""
    unreachable = f"http://{AWS_ADDRESS}:1/ec2-role-x86_64.tar.gz"
    for url, why in ((unreachable, "could not be fetched"), (release[0], f"has not the sum {'0' * 64}")):
        said = install(bare_host, (f"{url}?X-Amz-Signature=SECRET", "0" * 64), path=path_without(bare_host, other))
        assert f"NOT INSTALLED: {url} {why}" in said and "SECRET" not in said
        assert url != unreachable or "refused" in said or "Failed to connect" in said


def test_missing_curl_and_wget_are_reported(bare_host, release):
    assert "NOT INSTALLED: neither curl nor wget is there" in install(bare_host, release, path=path_without(bare_host, "curl", "wget"))


def test_failed_installation_says_whether_the_guard_is_on(bare_host, release):
    bare_host.put((SCRIPTS / "ec2-role-guard").read_text(), "/run/ec2-role-guard")
    path = path_without(bare_host, "curl", "wget")
    off = install(bare_host, release, path=path)
    remedy = re.search(r"NOT INSTALLED: neither .* The guard is NOT on: containers may have the role of this host [(](.*?) turns it on", off)[1]
    bare_host.run("sh", "-c", remedy)
    on = install(bare_host, release, path=path)
    lift = re.search(r"NOT INSTALLED: neither .* The guard stays on [(](.*?) lifts it[)]", on)[1]
    assert "off: containers may have the host's role" in bare_host.run("sh", "-c", lift).stderr


def test_unknown_variable_is_rejected_before_installing(bare_host, release):
    said = install(bare_host, release, "--variable", "EC2_ROLE_HTTP_TOKEN=required")
    assert "NOT INSTALLED: ec2-role: EC2_ROLE_HTTP_TOKEN: there is no such variable" in said
    assert_no_temporary_files(bare_host)


# A stand-in for apt-get: its first `update` fails as if the package lists were locked, and it can install only iptables.
APT = """#!/bin/sh
echo "$@" >>/var/log/apt-calls
case $* in
*update) test -e /run/busy || { touch /run/busy; exit 100; } ;;
*) ln -s /usr/sbin/iptables /opt/without-iptables-apt-get/iptables ;;
esac
"""


def test_missing_iptables_is_installed_after_an_apt_retry(fresh_host, release):
    host, path = fresh_host, path_without(fresh_host, "iptables", "apt-get")
    host.put(APT, f"{path}/apt-get", "0755")
    assert "ec2-role: installed" in install(host, release, path=path)
    calls = host.run("cat", "/var/log/apt-calls").stdout.splitlines()
    assert len(calls) == 3 and all("DPkg::Lock::Timeout=300" in call for call in calls) and "install -y" in calls[2]


def test_port_in_use_is_reported_before_installing(bare_host, release):
    own_address = bare_host.run("hostname", "--ip-address").stdout.strip()
    bare_host.run("systemd-run", "--unit=stranger", "python3", "-m", "http.server", "--bind", own_address, "4567")
    try:
        wait_until(lambda: bare_host.run("ss", "-Hltn", "sport = :4567").stdout, what="the stranger's listening")
        assert "NOT INSTALLED: ec2-role-hook: port 4567: something else listens there" in install(bare_host, release)
    finally:
        bare_host.run("systemctl", "stop", "stranger")
        bare_host.run("sh", "-s", "off", input=(SCRIPTS / "ec2-role-guard").read_text())


FLUENTD = ("--role", f"fluentd={arn('fluentd')}@br-fluentd")
CREATE = ("network create {}=br-fluentd --subnet 192.168.101.0/24 --gateway 192.168.101.1 fluentd")

# The option of each engine that names a network's bridge.
OPTIONS = {"podman": "--interface-name", "docker": "--opt com.docker.network.bridge.name"}


def test_install_needs_no_curl_or_tar_and_updates_the_roles(fresh_host, release):
    host = fresh_host
    host.install_docker()
    host.run("systemctl", "start", "docker")
    # The stand-in for Docker includes no docker command, so the output tells the user how to create the network.
    with mounted(host, "/var/tmp", "noexec"):
        said = install(host, release, *FLUENTD, path=path_without(host, "curl", "tar", "gzip"))
    assert "ec2-role: installed" in said and f"to make it: docker {CREATE.format(OPTIONS['docker'])}\n" in said
    host.wait_until_served()
    assert host.show("ec2-role@fluentd.socket", "Listen") == "192.168.101.1:4567 (Stream)"
    host.wait_until_active("ec2-role@fluentd")
    for engine in OPTIONS:
        host.put('#!/bin/sh\n[ "$2" != inspect ] && echo "${0##*/} $@" >>/var/log/engine\n', f"/usr/local/bin/{engine}", "0755")
        assert "to make it" not in install(host, release, *FLUENTD)
    assert host.run("cat", "/var/log/engine").stdout == "".join(f"{engine} {CREATE.format(option)}\n" for engine, option in OPTIONS.items())
    # A further run gives fluentd another bridge.
    install(host, release, "--role", f"fluentd={arn('fluentd')}@br-other:192.168.7.1")
    assert host.show("ec2-role@fluentd.socket", "Listen", "ActiveState") == ["192.168.7.1:4567 (Stream)", "active"]
    host.wait_until_active("ec2-role@fluentd")
    status = host.run("ec2-role-hook", "status").stdout
    assert "br-other" in status and "br-fluentd" not in status
    # A run without fluentd removes that role.
    install(host, release)
    host.wait_until_served()
    assert host.show("ec2-role@fluentd", "ActiveState", "UnitFileState") == ["inactive", "indirect"]
    assert host.show("ec2-role@fluentd.socket", "ActiveState", "UnitFileState") == ["inactive", "disabled"]
    assert not exists(host, "/etc/ec2-role/fluentd.conf") and not exists(host, "/etc/systemd/system/ec2-role@fluentd.socket.d")
    status = host.run("ec2-role-hook", "status").stdout
    assert "docker0" in status and "br-other" not in status


def test_a_bridge_keeps_its_role_if_roles_change_their_order(fresh_host, release):
    """The script numbers the networks in the order of the roles, but an engine keeps the addresses of the first run."""
    host = fresh_host
    assert "ec2-role: installed" in install(host, release, *FLUENTD)
    host.run("sh", "-euc", second_bridge("br-fluentd", "192.168.101", 24))
    host.wait_until_active("ec2-role@fluentd")
    url = "http://169.254.169.254/latest/meta-data/iam/security-credentials/"
    role = lambda: host.ask_on_second_bridge(url).stdout
    wait_until(lambda: role() == "fluentd", what="the role of the first run")
    php = ("--role", f"php={arn('php')}@br-php")
    for roles in (*php, *FLUENTD), php:
        said = install(host, release, *roles)
        assert role() == "fluentd"
        assert "NOT INSTALLED: br-php has not the address 192.168.101.1 of br-fluentd: keep the order of --role, or write @br-php:ADDRESS" in said
    assert "ec2-role: installed" in install(host, release, *FLUENTD, *php)
    wait_until(lambda: role() == "fluentd", what="the role after a run that adds another")
    said = install(host, release, "--role", f"fluentd={arn('fluentd')}@br-fluentd:192.168.9.1")
    assert "NOT INSTALLED: br-fluentd has not the address 192.168.9.1: keep the order of --role, or write @br-fluentd:ADDRESS" in said
    # Podman has the network, but not yet its bridge.
    host.run("ip", "link", "delete", "br-fluentd")
    host.put("""#!/bin/sh\n[ "$*" = 'network inspect fluentd' ] && echo '"gateway": "192.168.101.1"'\n""", "/usr/local/bin/podman", "0755")
    said = install(host, release, *php, *FLUENTD)
    assert "NOT INSTALLED: the network fluentd has not the address 192.168.102.1: keep the order of --role, or write @br-fluentd:ADDRESS" in said
    assert "ec2-role: installed" in install(host, release, *FLUENTD)


def test_a_network_on_the_hosts_own_subnet_is_refused(fresh_host, release):
    """The network's bridge would take the routes and the gateway's address of the host's own interface."""
    fresh_host.run("ip", "address", "add", "192.168.101.9/24", "dev", "eth0")
    said = install(fresh_host, release, *FLUENTD)
    assert ("NOT INSTALLED: the network fluentd cannot be 192.168.101.0/24, because this host is on it: make another network, "
            "and write @br-fluentd:ADDRESS") in said


def test_unit_that_fails_to_start_is_reported(fresh_host, release):
    host = fresh_host
    broken = "/etc/systemd/system/ec2-role-hook.service.d/broken.conf"
    host.put("[Service]\nExecStartPre=false\n", broken)
    assert "ec2-role: INSTALLED, NOT STARTED: ec2-role-hook.service failed; " in install(host, release)
    host.run("rm", broken)
    assert "ec2-role: installed" in install(host, release)
    host.wait_until_active("ec2-role@web")


def test_install_waits_for_forked_processes_that_hold_sockets(fresh_host, release):
    """With systemd before version 255, the forked process of a unit with Type=idle, such as getty's, holds systemd's sockets for
    up to 6 s while other jobs run, as in a boot. Until then a new role cannot listen at an old role's address."""
    host = fresh_host
    assert "ec2-role: installed" in install(host, release, "--role", f"old={arn('fluentd')}@br-two:192.168.7.1")
    host.put("[Service]\nType=idle\nExecStart=sleep 99\n", "/etc/systemd/system/getty-like.service")
    host.run("systemd-run", "--no-block", "--property=Type=oneshot", "sleep", "20")
    host.run("systemctl", "start", "--no-block", "getty-like")
    assert "ec2-role: installed" in install(host, release, "--role", f"new={arn('php')}@br-two:192.168.7.1")
    host.wait_until_active("ec2-role@new")


def test_upgrade_keeps_a_manually_added_role_active(fresh_host, release):
    host, template = fresh_host, "/etc/systemd/system/ec2-role@.socket"
    install(host, release)
    host.configure("app", "fluentd", EC2_ROLE_BRIDGE="")
    host.put("[Socket]\nListenStream=\nListenStream=127.0.0.1:4567\n", "/etc/systemd/system/ec2-role@app.socket.d/app.conf")
    host.put(host.run("cat", template).stdout + "# An older release\n", template)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "enable", "--now", "ec2-role@app.socket")
    assert "ec2-role: installed" in install(host, release)
    assert host.show("ec2-role@app.socket", "ActiveState") == "active"
    host.wait_until_active("ec2-role@app")
    host.wait_until_active("ec2-role@web")


def test_settings_file_of_each_role_is_private_and_complete():
    roles = [word for name in ("a", "b") for word in ("--role", f"{name}={arn(name)}@br-{name}")]
    command = [SCRIPTS / "ec2-role-user-data", *roles, *RELEASE, "--variable", "EC2_ROLE_QUIET=true"]
    script = yaml.safe_load(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["write_files"][0]["content"]
    for name in ("a", "b"):
        assert (f"file /etc/ec2-role/{name}.conf 600 <<'END'\nEC2_ROLE_ARN={arn(name)}\nEC2_ROLE_BRIDGE=br-{name}\n"
                "EC2_ROLE_SAME_NETWORK=true\nEC2_ROLE_PASS_THROUGH=true\nEC2_ROLE_QUIET=true\nEND\n") in script


@pytest.mark.parametrize("arguments, said", [
    ((), "no --role"),
    (("--role", "web"), "write NAME=ROLE_ARN@BRIDGE"),
    *((("--role", f"web={wrong}@docker0", *RELEASE), "not a role's ARN") for wrong in ("arn:aws:iam::1:role/x", arn("x'y"))),
    (("--role", f"{'n' * 33}={arn('a')}@docker0", *RELEASE), "32 at most"),
    (("--role", f"web={arn('a')}@br-{'n' * 13}", *RELEASE), "an interface's name"),
    (("--role", f"web={arn('a')}@docker0 x", *RELEASE), "a space in it"),
    (("--role", f"web={arn('a')}@docker0:172.17.0.256", *RELEASE), "not an IPv4 address"),
    (("--role", f"web={arn('a')}@docker0"), "no --url"),
    (("--role", f"web={arn('a')}@docker0", "--role", f"web={arn('b')}@br-b"), "a second role with the name web"),
    (("--role", f"a={arn('a')}@br-a", "--role", f"b={arn('b')}@br-a:192.168.9.1"), "a second role for one bridge or address"),
    (("--role", f"a={arn('a')}@br-a:192.168.9.1", "--role", f"b={arn('b')}@br-b:192.168.9.1"), "a second role for one bridge or address"),
    ((*RELEASE, "--url", "http://x/amd64", "--sha256", "0" * 64), "a second one for x86_64"),
    (("--role", f"web={arn('a')}@docker0", "--url", "http://x/x86_64"), "no --sha256"),
    (("--url", "http://x/x86_64", "--sha256", "0" * 63), "64 hexadecimal digits"),
    (("--url", "http://x/y", "--sha256", "0" * 64), "x86_64 or aarch64"),
    (("--url", "http://x/' x86_64", "--sha256", "0" * 64), "no quotes"),
    *((("--variable", f"A=b{byte}c"), "printable ASCII") for byte in ("\n", "\r", "\x1b", "\x7f", "\u2028", "é", "\udcff", "'")),
    (("--colour",), "no such option"),
])
def test_invalid_arguments_are_reported_in_one_line(arguments, said):
    result = subprocess.run([SCRIPTS / "ec2-role-user-data", *arguments], capture_output=True, text=True)
    assert result.returncode == 2 and result.stdout == ""
    assert said in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("failing", ["sed", "cat"])
def test_failure_of_any_command_prints_no_user_data(tmp_path, failing):
    """Makes each run of the program fail in turn. The script must then print no user-data: without the guard's part, the
    user-data would leave the way to the host's role open."""
    runs = tmp_path / "runs"
    path = first_in_path(tmp_path, failing, f'echo >>{runs}; [ "$(wc -l <{runs})" != "$FAILS" ] || exit 1\nexec {shutil.which(failing)} "$@"')
    command = [SCRIPTS / "ec2-role-user-data", "--role", f"web={arn('a')}@docker0", *RELEASE]
    for run in itertools.count(1):
        runs.write_text("")
        printed = subprocess.run(command, capture_output=True, text=True, env={"PATH": path, "FAILS": str(run)})
        if len(runs.read_text()) < run:
            break
        assert printed.returncode != 0 and printed.stdout == "", run
    assert run > 1 and printed.stdout.startswith("#cloud-config")
