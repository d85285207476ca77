"""(7) After remove the firewall is what it was. Prints the three states, for the reader of the README."""

import pathlib

from instance import REPOSITORY, firewall, routing

STATES = REPOSITORY / "target/docker"


def test_7_after_remove_the_firewall_and_the_routing_are_what_they_were(docker):
    before = firewall(docker.instance), routing(docker.instance)
    keep(docker, "before")
    docker.instance.hook("add")
    docker.instance.hook("add", "--bridge", "br-+", "--container-endpoint")
    assert (firewall(docker.instance), routing(docker.instance)) != before
    docker.instance.hook("remove", "--bridge", "br-+")
    keep(docker, "with")
    docker.restart()
    docker.instance.hook("remove")
    keep(docker, "after")
    assert (firewall(docker.instance), routing(docker.instance)) == before


def keep(docker, name):
    STATES.mkdir(parents=True, exist_ok=True)
    saved = "".join(docker.instance.ec2.run(*command).stdout for command in (
        ("iptables-save",), ("ip6tables-save",), ("ip", "rule"), ("ip", "-6", "rule")))
    pathlib.Path(STATES / f"iptables-{name}.txt").write_text(saved)
