"""promtool, Prometheus' own checker, accepts /metrics and the alerting rules."""

import os
import shutil
import subprocess

import pytest

from ec2_role import REPOSITORY, Ec2Role, fetch

PROMTOOL = REPOSITORY / "target/promtool"


@pytest.fixture(scope="session")
def promtool(tmp_path_factory):
    """A function that runs promtool. Debian's package prometheus is only unpacked, because installing it starts a server."""
    if not PROMTOOL.exists():
        if shutil.which("apt-get") is None and not os.environ.get("CI"):
            pytest.skip("target/promtool is not there, and there is no apt-get")
        package = tmp_path_factory.mktemp("prometheus")
        subprocess.run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", "prometheus"], cwd=package, check=True)
        subprocess.run(["dpkg-deb", "--extract", *package.glob("*.deb"), package], check=True)
        shutil.move(package / "usr/bin/promtool", PROMTOOL)
    return lambda *arguments, **options: subprocess.run(
        [PROMTOOL, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def test_metrics_have_no_fault_that_promtool_knows(aws, promtool):
    with Ec2Role("--metrics", "--endpoint-url", aws.endpoint, environment=aws.host_keys) as ec2_role:
        ec2_role.wait_for_credential()
        _, metrics = fetch(ec2_role.endpoint, "GET", "/metrics")
    assert "ec2_role_credential_expiry_timestamp_seconds" in metrics
    checked = promtool("check", "metrics", input=metrics)
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.parametrize("command, file", [("check", "scripts/ec2-role.rules.yml"), ("test", "test/clients/alerts.yml")])
def test_each_alert_fires_when_it_should(promtool, command, file):
    checked = promtool(command, "rules", REPOSITORY / file)
    assert checked.returncode == 0 and "SUCCESS" in checked.stdout, checked.stdout
