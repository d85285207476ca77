"""Tests the pod of scripts/README.md, ec2-role as a sidecar, with podman kube play."""

import pytest
import yaml

from instance import wait_until
from readme import OPERATING, block, command
from sts import ENDPOINT

MANIFEST = "/srv/pod.yaml"


@pytest.fixture
def pod(host, engine):
    credential = engine.instance.real_metadata.credential
    secret, pod = yaml.safe_load_all(block("A pod", "yaml", page=OPERATING))
    # Adapt the manifest to the test: its source credential, its STS endpoint, no image pulls.
    secret["stringData"] = {"AWS_ACCESS_KEY_ID": credential["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": credential["SecretAccessKey"],
                            "AWS_SESSION_TOKEN": credential["Token"]}
    pod["spec"]["containers"][0]["env"].append({"name": "EC2_ROLE_ENDPOINT_URL", "value": ENDPOINT})
    for container in (*pod["spec"]["initContainers"], *pod["spec"]["containers"]):
        container["imagePullPolicy"] = "Never"
    host.put(yaml.safe_dump_all([secret, pod]), MANIFEST)
    # The sidecar must work without the metadata service, so the guard keeps the pod from that service.
    host.run("ec2-role-guard", "on")
    host.podman("kube", "play", MANIFEST)
    return host


def test_a_pods_container_uses_the_role_of_its_sidecar(pod):
    wait_until(lambda: ":assumed-role/exc_web/" in pod.podman("logs", "web-app").stdout, what="the role in an answer of STS")
    # The sidecar refuses a request without the container token. The token's file is on a tmpfs, so it is only in memory. The
    # application's environment does not have the source credential.
    infra = pod.podman("ps", "--filter", "name=infra$", "--format", "{{.Names}}").stdout.strip()
    answer, _ = pod.curl(infra, "http://127.0.0.1:4567/v2/credentials/exc_web", "--write-out", "%{http_code}")
    assert answer.endswith("401") and "SecretAccessKey" not in answer
    sidecar = pod.podman("inspect", "--format", "{{.State.Pid}}", "web-role").stdout.strip()
    root = f"/proc/{sidecar}/root"
    token = f"{root}/dev/shm/token"
    assert pod.run("sh", "-c", f"stat --file-system --format %T {token}; stat --format %a:%u {token}; wc -c <{token}").stdout == "tmpfs\n640:65534\n64\n"
    shown = pod.podman("inspect", "--format", "{{.Config.Env}}", "web-app").stdout
    assert "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" in shown and "AWS_SECRET_ACCESS_KEY" not in shown
    pod.run(*command("podman kube down", OPERATING).replace("pod.yaml", MANIFEST).split())
    assert pod.run("sh", "-c", "podman ps --all --quiet; podman secret ls --quiet").stdout == ""
