"""ec2-role-hook.service: what it comes before and after, and what keeps Docker from starting."""

from instance import wait_until
from real_metadata import HOST_ROLE

STARTS_CONTAINERS = ["docker", "snap.docker.dockerd", "containerd", "podman-restart"]
WRITES_THE_FIREWALL_ANEW = ["firewalld", "ufw", "nftables", "iptables", "ip6tables", "netfilter-persistent"]


def test_it_comes_before_whatever_starts_containers_and_after_what_writes_the_firewall_anew(host):
    before, after = (set(units.split()) for units in host.show("ec2-role-hook", "Before", "After"))
    assert {f"{name}.service" for name in STARTS_CONTAINERS} <= before
    assert {f"{name}.service" for name in WRITES_THE_FIREWALL_ANEW} <= after


def test_docker_starts_behind_a_guard_that_refuses_slowly_because_there_is_no_iptables(fresh_host):
    host = fresh_host
    host.install_docker()
    host.put("[Service]\nExecStart=\nExecStart=/usr/local/sbin/ec2-role-hook guard on --iptables iptables-none\n",
             "/etc/systemd/system/ec2-role-hook.service.d/no-iptables.conf")
    host.install()
    host.run("systemctl", "start", "docker")
    assert host.show("ec2-role-hook", "ActiveState", "ExecMainStatus") == ["active", "3"]
    assert host.show("docker", "ActiveState") == "active"
    answers = wait_until(lambda: host.run("cat", "/var/log/answers", check=False).stdout, what="the container's first answer")
    assert HOST_ROLE not in answers
