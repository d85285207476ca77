"""Installs ec2-role on a host: containers get only their role, also after reboots; a denied role delays neither the installation
nor a boot; the removal leaves nothing."""

from instance import wait_until
from readme import OPERATING, block
from real_metadata import HOST_ROLE

STATE = """
find /etc /usr /var/lib /root /run/systemd/system -xdev -not -path '*/systemd/*journal*' | sort
iptables-save | grep '^-'; ip6tables-save | grep '^-'; ip rule; ip -6 rule
"""


def answers(host):
    return host.run("cat", "/var/log/answers", check=False).stdout.splitlines()


def test_no_container_sees_the_hosts_role_across_reboots(fresh_host):
    host = fresh_host
    host.install_docker()
    host.run("systemctl", "enable", "--now", "docker")
    wait_until(lambda: HOST_ROLE in answers(host), what="the host's role in a container, without ec2-role")
    host.run("systemctl", "stop", "docker")
    host.run("rm", "/var/log/answers")
    host.install()
    for _ in range(2):
        host.reboot()
        host.wait_until_served()
        wait_until(lambda: "exc_web" in answers(host), what="the role in the container")
        assert HOST_ROLE not in answers(host)
        host.run("rm", "/var/log/answers")


def test_uninstall_leaves_nothing(fresh_host):
    host = fresh_host
    host.install_docker()
    host.run("systemctl", "start", "docker")
    before = host.run("sh", "-c", STATE).stdout
    host.install()
    host.wait_until_served()
    assert host.run("sh", "-c", STATE).stdout != before
    host.uninstall()
    assert host.run("sh", "-c", STATE).stdout == before


def test_undo_of_the_boot_units_leaves_docker_running(fresh_host):
    host = fresh_host
    host.install_docker()
    host.unpack_release()
    host.run("sh", "-euc", "cd /tmp/release; install ec2-role-guard ec2-role-hook /usr/local/sbin; mkdir scripts; cp *.service scripts")
    host.put('#!/bin/sh\nexec "$@"\n', "/usr/local/bin/sudo", "0755")
    host.run("systemctl", "start", "docker")
    before = host.run("sh", "-c", STATE).stdout
    host.run("sh", "-euc", "cd /tmp/release\n" + block("At boot", "sh", 0, OPERATING))
    host.run("ec2-role-hook", "status", "--bridge", "er-+")
    host.run("sh", "-euc", block("At boot", "sh", 1, OPERATING))
    host.run("ec2-role-guard", "off")
    assert host.run("sh", "-c", STATE).stdout == before
    host.run("sh", "-c", "rm /usr/local/sbin/ec2-role-* && systemctl restart docker")


USER_DATA = "#cloud-config\nruncmd:\n  - [touch, /run/user-data-ran]\n"
SECONDS = 60  # time limit of the boot, for a busy machine; a boot that waited for the denied role would never end


def test_denied_role_delays_neither_install_nor_boot(fresh_host, denied):
    host = fresh_host
    # The installation includes `systemctl enable --now`, which must not wait for the role.
    host.install()
    wait_until(lambda: "AccessDenied" in host.show("ec2-role@web", "StatusText"), what="the denial")
    host.give_user_data(USER_DATA)
    host.reboot(wait=False)
    wait_until(lambda: host.run("test", "-e", "/run/user-data-ran", check=False).returncode == 0, SECONDS, what="runcmd's run")
    host.wait_until_active("multi-user.target")
    wait_until(lambda: "AccessDenied" in host.show("ec2-role@web", "StatusText"), what="the denial")
    assert host.show("ec2-role@web", "ActiveState") == "activating"
    denied()
    host.wait_until_active("ec2-role@web")
