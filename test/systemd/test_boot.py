"""From nothing to a host whose containers use their role, over a reboot, and back to nothing."""

from instance import wait_until
from real_metadata import HOST_ROLE

STATE = """
find /etc /usr /var/lib /root /run/systemd/system -xdev -not -path '*/systemd/*journal*' | sort
iptables-save | grep '^-'; ip6tables-save | grep '^-'; ip rule; ip -6 rule
"""


def answers(host):
    return host.run("cat", "/var/log/answers", check=False).stdout.splitlines()


def test_over_a_reboot_a_container_that_polls_from_its_first_moment_never_sees_the_hosts_role(fresh_host):
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


def test_uninstalled_it_leaves_nothing(fresh_host):
    host = fresh_host
    host.install_docker()
    host.run("systemctl", "start", "docker")
    before = host.run("sh", "-c", STATE).stdout
    host.install()
    host.wait_until_served()
    assert host.run("sh", "-c", STATE).stdout != before
    host.uninstall()
    assert host.run("sh", "-c", STATE).stdout == before
