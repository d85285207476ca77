"""Tests ec2-role-network with Podman: create, repair, remove, and the choice of the engine."""

import json

import pytest

from real_metadata import LIST
from sts import arn

LEFT = "podman ps --all --quiet; podman network ls --format '{{.Name}}'; ip -o link show type bridge; iptables-save | grep EC2-ROLE"


def leftovers(host):
    return host.run("sh", "-c", LEFT, check=False).stdout


def gateway_of(host, name):
    return host.podman("network", "inspect", "--format", "{{(index .Subnets 0).Gateway}}", name).stdout.strip()


def test_each_network_has_its_role_and_no_other(host):
    for role in ("fluentd", "php"):
        assert f"podman run --network {role} ... has {arn(role)}" in host.create(role).stderr
    boxes = {role: host.box("--network", role) for role in ("fluentd", "php")}
    listed = host.network("list")
    assert listed.stderr == ""
    for role, box in boxes.items():
        other = next(name for name in boxes if name != role)
        assert host.role_seen_by(box) == role
        assert host.curl(box, f"http://{gateway_of(host, other)}:4567{LIST}")[0] == ""
        assert f"{arn(role)} " in listed.stdout and f"er-{role} " in listed.stdout and f"{gateway_of(host, role)}:4567" in listed.stdout
    host.run("nft", "flush", "ruleset")
    assert host.role_seen_by(boxes["php"]) is None
    assert host.curl(boxes["php"], f"http://{gateway_of(host, 'fluentd')}:4567{LIST}")[0] != "fluentd"
    listed = host.network("list", check=False)
    assert listed.returncode == 1 and "NOT ok: " in listed.stderr


def test_remove_deletes_everything_except_the_guard(host):
    before = leftovers(host)
    host.create("php")
    box = host.box("--network", "php")
    refused = host.network("remove", "php", check=False)
    assert refused.returncode == 1 and refused.stderr.endswith("remove it first: podman rm --force\n")
    assert host.role_seen_by(box) == "php"
    host.podman("rm", "--force", box)
    host.network("remove", "php")
    assert leftovers(host) == before
    assert "on: only this host" in host.run("ec2-role-guard", "status").stderr
    # `remove` works even if no container was ever on the network. It keeps the hook while a bridge with the prefix er- exists,
    # because that bridge can belong to another engine's network.
    host.create("php")
    host.run("ip", "link", "add", "er-other", "type", "bridge")
    host.network("remove", "php")
    assert "er-php" not in leftovers(host) and "-i er-+ " in host.run("iptables-save").stdout


def test_network_serves_again_after_podman_removed_its_bridge(host):
    host.create("php")
    for _ in range(2):
        box = host.box("--network", "php")
        assert host.role_seen_by(box) == "php"
        host.podman("rm", "--force", box)
        assert host.run("ip", "link", "show", "er-php", check=False).returncode != 0


def test_replace_keeps_settings_that_are_not_given(host):
    odd = "engine=  a \"b\" 'c' $(id) \\n %s"
    host.put(f"EC2_ROLE_ROLE_NAME=temp\n{odd}\n", "/tmp/variables")
    host.create("php", "--env-file", "/tmp/variables")
    host.podman("rm", "--force", host.box("--network", "php"))
    # Podman removed the bridge when the network's last container was removed. `replace` works although the bridge is missing.
    host.network("replace", "php", arn("fluentd"))
    assert "SecretAccessKey" not in host.run("journalctl").stdout  # the journal is Podman's default log
    assert host.role_seen_by(host.box("--network", "php")) == "temp"
    assert odd in json.loads(host.podman("inspect", "--format", "{{json .Config.Env}}", "ec2-role-php").stdout)
    assert f"php                  {arn('fluentd')} " in host.network("list").stdout
    failed = host.network("replace", "php", "--", "--http-tokens", "perhaps", check=False)
    assert failed.returncode == 1 and "php keeps its server" in failed.stderr and "write optional or required" in failed.stderr
    assert host.podman("ps", "--all", "--format", "{{.Names}}").stdout.count("ec2-role") == 1


@pytest.mark.parametrize("broken", [("network", "prune", "--force"), ("rm", "--force", "ec2-role-php"), ("pause", "ec2-role-php")],
                         ids=["network", "server", "paused"])
def test_missing_network_or_server_is_reported_and_restored(host, broken):
    host.create("php")
    gateway = gateway_of(host, "php")
    host.podman(*broken)
    listed = host.network("list", check=False)
    gone = {"network": "network is gone (podman network prune?)", "rm": "server cannot answer (missing)", "pause": "server cannot answer (Paused"}[broken[0]]
    assert listed.returncode == 1 and f"php: its {gone}" in listed.stderr
    assert f"; to repair it: ec2-role-network create {arn('php')} --name php\n" in listed.stderr
    host.create("php")
    assert gateway_of(host, "php") == gateway and host.network("list").stderr == ""
    assert host.role_seen_by(host.box("--network", "php")) == "php"


@pytest.mark.parametrize("arguments, complaint", [
    (("--image", "no-such"), "no-such: no such image here; scripts/image builds it, podman load takes it from a tarball\n"),
    (("--engine", "docker"), "docker: not found; "),
])
def test_errors_give_the_remedy_of_the_chosen_engine(host, arguments, complaint):
    refused = host.network("create", *arguments, arn("php"), check=False)
    assert refused.returncode == 1 and refused.stderr.startswith(f"ec2-role-network: {complaint}")
    wrong = host.network("list", "--engine", "lxc", check=False)
    assert wrong.returncode == 2 and wrong.stderr == "ec2-role-network: --engine lxc: not known; docker or podman\n"


def test_podman_installed_as_docker_is_treated_as_podman(host):
    host.put('#!/bin/sh\nexec podman "$@"\n', "/usr/local/bin/docker", "0755")
    try:
        created = host.create("php", "--engine", "docker").stderr
    finally:
        host.run("rm", "/usr/local/bin/docker")
    assert f"podman run --network php ... has {arn('php')}" in created
    assert "after the next boot the server is not started: systemctl enable podman-restart" in created
    # `create` started conmon, Podman's monitor of the server's container. conmon must not keep the lock of `create`.
    host.run("flock", "--nonblock", "/run/ec2-role-network.lock", "true")
