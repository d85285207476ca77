"""The user-data on a minimal host that cloud-init boots with it: all of it or nothing, and never the host's role."""

import subprocess

import pytest
import yaml

from host import SCRIPTS
from instance import AWS_ADDRESS, wait_until
from real_metadata import HOST_ROLE
from release import Release, user_data
from sts import arn

MAX_BYTES = 16384
INSTALLED = ["/usr/local/bin/ec2-role", "/usr/local/sbin/ec2-role-hook", "/etc/systemd/system/ec2-role@.service",
             "/etc/ec2-role/web.conf"]


@pytest.fixture(scope="module")
def release(engine):
    with Release(engine.instance.aws) as release:
        yield release.url, release.sum


def boot_with(host, document):
    """As a new instance: cloud-init finds the document in its seed directory."""
    host.install_docker()
    host.run("systemctl", "enable", "docker")
    host.put("network: {config: disabled}\n", "/etc/cloud/cloud.cfg.d/90_network.cfg")
    host.put("datasource_list: [NoCloud]\n", "/etc/cloud/cloud.cfg.d/91_datasource.cfg")
    host.put("instance-id: i-0123456789abcdef0\n", "/var/lib/cloud/seed/nocloud/meta-data")
    host.put(document, "/var/lib/cloud/seed/nocloud/user-data")
    host.reboot()
    host.run("cloud-init", "status", "--wait", check=False)


def log(host):
    return host.run("cat", "/var/log/cloud-init-output.log", check=False).stdout


def answers(host):
    return host.run("cat", "/var/log/answers").stdout.splitlines()


def assert_nothing_is_installed_and_the_guard_stays(host):
    for path in INSTALLED:
        assert host.run("test", "-e", path, check=False).returncode != 0, path
    assert host.run("find", "/usr/local", "/etc", "-name", "*.ec2-role-new").stdout == ""
    assert host.run("find", "/var/tmp", "-name", "ec2-role.*").stdout == ""
    assert host.ask(seconds=1) is None
    wait_until(lambda: answers(host), what="the container's first answer")
    assert HOST_ROLE not in answers(host)


def test_cloud_init_accepts_it_and_it_is_within_ec2s_limit(host, release):
    document = user_data(*release, "--role", f"fluentd={arn('fluentd')}@br-fluentd",
                         "--url", "https://example.com/ec2-role-aarch64.tar.gz".replace("aarch64", "other-arm64"), "--sha256", "0" * 64)
    print(f"user-data: {len(document)} bytes of at most {MAX_BYTES}")
    assert len(document) <= MAX_BYTES
    host.put(document, "/tmp/user-data")
    result = host.run("cloud-init", "schema", "--config-file", "/tmp/user-data")
    assert "Valid cloud-config" in result.stdout and "Warning" not in result.stdout


def test_a_new_instance_serves_its_containers_and_never_showed_them_the_hosts_role(fresh_host, release):
    host = fresh_host
    boot_with(host, user_data(*release))
    host.wait_until_active("ec2-role@web", seconds=30)
    host.wait_until_served()
    wait_until(lambda: "exc_web" in answers(host), what="the role in the container")
    assert HOST_ROLE not in answers(host)
    assert host.show("ec2-role-hook", "ActiveState") == "active"
    assert "MISSING" not in host.run("ec2-role-hook", "status").stdout
    # Twice is as good as once, containers running, and so is a boot.
    docker = host.show("docker", "MainPID")
    host.run("sh", "/etc/ec2-role/install")
    host.wait_until_served()
    assert host.show("docker", "MainPID") == docker
    host.reboot()
    host.wait_until_served()
    assert HOST_ROLE not in answers(host)


def test_a_wrong_sum_installs_nothing_and_says_so_in_one_line(fresh_host, release):
    host = fresh_host
    url, _ = release
    boot_with(host, user_data(url, "0" * 64))
    said = [line for line in log(host).splitlines() if line.startswith("ec2-role:")]
    assert len(said) == 1 and "NOT INSTALLED" in said[0] and f"has not the sum {'0' * 64}" in said[0], log(host)
    assert_nothing_is_installed_and_the_guard_stays(host)


def test_no_network_and_a_full_disk_install_nothing_and_it_can_be_tried_again(fresh_host, release):
    host = fresh_host
    unreachable = f"http://{AWS_ADDRESS}:1/ec2-role-x86_64.tar.gz"
    boot_with(host, user_data(unreachable, "0" * 64))
    assert f"NOT INSTALLED: {unreachable} could not be fetched" in log(host)
    assert_nothing_is_installed_and_the_guard_stays(host)

    installer = yaml.safe_load(user_data(*release))["write_files"][0]["content"]
    host.put(installer, "/etc/ec2-role/install")
    host.run("mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", "/usr/local/bin")
    result = host.run("sh", "/etc/ec2-role/install", check=False)
    assert result.returncode != 0 and "NOT INSTALLED: /usr/local/bin/ec2-role could not be written; is the disk full?" in result.stdout
    host.run("umount", "/usr/local/bin")
    assert_nothing_is_installed_and_the_guard_stays(host)

    host.run("sh", "/etc/ec2-role/install")
    host.wait_until_served()


@pytest.mark.parametrize("arguments, said", [
    ((), "no --role"),
    (("--role", "web"), "write NAME=ROLE_ARN@BRIDGE"),
    (("--role", "web=arn:aws:iam::1:role/x@docker0"), "not a role's ARN"),
    (("--role", f"web={arn('a')}@docker0"), "no --url"),
    (("--role", f"web={arn('a')}@docker0", "--url", "http://x/x86_64"), "no --sha256"),
    (("--url", "http://x/x86_64", "--sha256", "short"), "64 hexadecimal digits"),
    (("--url", "http://x/y", "--sha256", "0" * 64), "x86_64 or aarch64"),
    (("--url", "http://x/' x86_64", "--sha256", "0" * 64), "no quotes"),
    (("--variable", "A=b\nc"), "line break"),
    (("--colour",), "no such option"),
])
def test_what_is_written_wrong_is_one_line_with_the_remedy(arguments, said):
    result = subprocess.run([SCRIPTS / "ec2-role-user-data", *arguments], capture_output=True, text=True)
    assert result.returncode == 2 and result.stdout == ""
    assert said in result.stderr and result.stderr.count("\n") == 1
