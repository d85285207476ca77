"""Checks that systemd accepts the units, and how it rates their security."""

import re

MAX_EXPOSURE = 1.4


def test_systemd_accepts_the_units_without_warnings(host):
    units = ["ec2-role@web.service", "ec2-role@web.socket", "ec2-role-guard.service", "ec2-role-hook.service"]
    result = host.run("systemd-analyze", "verify", *units)
    assert result.stdout + result.stderr == ""


def test_security_exposure_of_the_unit_is_at_most_1_4(host):
    report = host.run("systemd-analyze", "security", "--no-pager", "ec2-role@web.service").stdout
    exposure = float(re.search(r"Overall exposure level for \S+: (\S+)", report)[1])
    print(f"systemd-analyze security: {exposure}")
    assert exposure <= MAX_EXPOSURE, report
