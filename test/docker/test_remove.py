"""After `remove` and `guard off` the host is as before. The test keeps the state before, with and after the hook in
target/docker."""

import pathlib

from instance import REPOSITORY, firewall, routing

STATES = REPOSITORY / "target/docker"


def test_remove_and_guard_off_restore_the_host(docker):
    # The hook leaves empty tables behind, which the comparison below would find. So create all tables first: listing a table
    # creates it for good.
    for program in ("iptables", "ip6tables"):
        for table in ("raw", "nat", "filter"):
            docker.instance.ec2.run(program, "-t", table, "-S")
    before = firewall(docker.instance), routing(docker.instance)
    keep(docker, "before")
    docker.instance.hook("add")
    docker.instance.hook("add", "--bridge", "br-+", "--missing-ok", "--container-endpoint")
    assert (firewall(docker.instance), routing(docker.instance)) != before
    docker.instance.hook("remove", "--bridge", "br-+")
    keep(docker, "with")
    docker.restart()
    docker.instance.hook("remove")
    docker.instance.guard("off")
    keep(docker, "after")
    assert (firewall(docker.instance), routing(docker.instance)) == before


def keep(docker, name):
    STATES.mkdir(parents=True, exist_ok=True)
    saved = "".join(docker.instance.ec2.run(*command).stdout for command in (
        ("iptables-save",), ("ip6tables-save",), ("ip", "rule"), ("ip", "-6", "rule")))
    pathlib.Path(STATES / f"iptables-{name}.txt").write_text(saved)
