"""Checks that systemd accepts the units, and how it rates their security."""

import re

import pytest

from host import SCRIPTS

MAX_EXPOSURE = 1.4
# All that systemd-analyze may object to. The comment on the sandbox in the unit gives the reasons.
OBJECTIONS = {"DeviceAllow=", "IPAddressDeny=", "PrivateNetwork=", "PrivateUsers=", "RestrictAddressFamilies=~AF_(INET|INET6)",
              "RestrictAddressFamilies=~AF_UNIX", "RootDirectory=/RootImage=", "SystemCallFilter=~@resources"}


def test_systemd_accepts_the_units_without_warnings(host):
    units = ["ec2-role@web.service", "ec2-role@web.socket", "ec2-role-guard.service", "ec2-role-hook.service"]
    result = host.run("systemd-analyze", "verify", *units)
    assert result.stdout + result.stderr == ""


# With User=, the unit must itself set what DynamicUser= implies, so each option is checked.
@pytest.mark.parametrize("user", ["DynamicUser=yes", "User=nobody"])
def test_systemd_objects_only_to_what_the_service_needs(host, user):
    host.put((SCRIPTS / "ec2-role@.service").read_text().replace("DynamicUser=yes", user), "/tmp/units/ec2-role@web.service")
    report = host.run("systemd-analyze", "security", "--no-pager", "--offline=yes", "/tmp/units/ec2-role@web.service").stdout
    # Many options change the exposure by less than its rounding, so check each option too.
    objections = set(re.findall(r"^✗ (\S+)", report, re.M))
    assert "PrivateUsers=" in objections and objections <= OBJECTIONS | ({"User=/DynamicUser="} if user == "User=nobody" else set()), report
    exposure = float(re.search(r"Overall exposure level for \S+: (\S+)", report)[1])
    print(f"systemd-analyze security: {exposure}")
    assert exposure <= MAX_EXPOSURE or user == "User=nobody", report
