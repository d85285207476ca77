"""promtool, Prometheus' own checker, accepts /metrics and the alerting rules."""

import os
import re
import subprocess

import pytest

from ec2_role import REPOSITORY, Ec2Role, fetch
from promtool import PROMTOOL

pytestmark = pytest.mark.skipif(not PROMTOOL.exists() and not os.environ.get("CI"), reason="target/promtool is not there; run scripts/setup python")


def promtool(*arguments, **options):
    return subprocess.run([PROMTOOL, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def test_promtool_accepts_the_metrics(aws):
    with Ec2Role("--metrics", "--endpoint-url", aws.endpoint, environment=aws.host_keys) as ec2_role:
        ec2_role.wait_for_credential()
        _, metrics = fetch(ec2_role.endpoint, "GET", "/metrics")
    in_rules = set(re.findall(r"ec2_role_\w+", (REPOSITORY / "scripts/ec2-role.rules.yml").read_text()))
    assert in_rules and all(f"\n{name} " in metrics for name in in_rules), metrics
    checked = promtool("check", "metrics", input=metrics)
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.parametrize("command, file", [("check", "scripts/ec2-role.rules.yml"), ("test", "test/clients/alerts.yml")])
def test_each_alert_fires_when_it_should(command, file):
    checked = promtool(command, "rules", REPOSITORY / file)
    assert checked.returncode == 0 and "SUCCESS" in checked.stdout, checked.stdout
