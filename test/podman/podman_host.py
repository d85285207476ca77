"""A host with root's Podman: a Docker container with Debian and systemd as PID 1. Podman's containers run inside it."""

import platform

import pytest

from containers import CURL_REFUSED, WHO_AM_I
from host import ENGINE_INIT, ENGINE_OPTIONS, NETWORK, SUBNET, Host
from images import busybox_tree, podman_tree
from instance import METADATA, REPOSITORY, wait_until
from instance_server import BINARY
from real_metadata import LIST
from sts import ENDPOINT, arn

IMAGE = "podman-host"
BUSYBOX = "docker.io/library/busybox"
RESET = 56  # curl's exit status if the connection is reset


def import_tree(engine):
    if platform.freedesktop_os_release()["ID"] != "debian":
        pytest.skip("test/podman: this machine's sources are not Debian's")
    engine.docker("import", podman_tree(), IMAGE)
    engine.docker("network", "create", "--subnet", SUBNET, NETWORK)


class PodmanHost(Host):
    options = (*ENGINE_OPTIONS, "--volume", "/var/lib/containers", "--volume", f"{REPOSITORY}/target/docker:/trees:ro")
    init = ENGINE_INIT

    def __init__(self, engine):
        super().__init__(engine, IMAGE)
        self.unpack_release()
        self.run("sh", "-euc", "cd /tmp/release; install ec2-role /usr/local/bin; install ec2-role-guard ec2-role-hook ec2-role-network /usr/local/sbin; "
                 "install -m 644 *.service *.socket /etc/systemd/system; systemctl daemon-reload")
        self.run("sh", "-c", f"podman import --quiet - {BUSYBOX}", input=busybox_tree(), text=False)
        self.podman("import", "--quiet", f"/trees/{podman_tree().name}", "client")
        # Images with the names that a user would pull. Whatever its arguments, this aws-cli prints the caller's ARN.
        for name, entrypoint in (("curlimages/curl", '["curl"]'), ("amazon/aws-cli", f"python3 -c '{WHO_AM_I}' --")):
            self.podman("build", "--quiet", "--tag", f"docker.io/{name}", "-", input=f"FROM localhost/client\nENTRYPOINT {entrypoint}\n")
        self.image_says = self.build_image()

    def build_image(self):
        """Runs scripts/image with an empty script in the place of scripts/build, because the binary exists already."""
        tree = "/srv/tree"
        for name in ("scripts/image", "scripts/common", "scripts/Dockerfile", "Cargo.toml"):
            self.put(REPOSITORY / name, f"{tree}/{name}", "0755")
        self.put("#!/bin/sh\n", f"{tree}/scripts/build", "0755")
        self.put("#!/bin/sh\necho 0123456789abcdef\n", "/usr/local/bin/git", "0755")
        self.put(BINARY, f"{tree}/target/{platform.machine()}-unknown-linux-musl/release/ec2-role", "0755")
        return self.run(f"{tree}/scripts/image").stdout

    def podman(self, *arguments, **options):
        return self.run("podman", *arguments, **options)

    def network(self, *arguments, **options):
        return self.run("ec2-role-network", *arguments, **options)

    def create(self, role, *options, **more):
        return self.network("create", *options, arn(role), "--", "--endpoint-url", ENDPOINT, **more)

    def box(self, *options):
        """Starts a container that only sleeps, and returns its id."""
        return self.podman("run", "--detach", "--stop-signal", "KILL", *options, BUSYBOX, "sleep", "600").stdout.strip()

    def curl(self, container, url, *options):
        """Runs curl in the container's network, and returns its output and exit status."""
        namespace = self.podman("inspect", "--format", "{{.NetworkSettings.SandboxKey}}", container).stdout.strip()
        result = self.run("nsenter", f"--net={namespace}", "curl", "--silent", "--max-time", "3", *options, url, check=False)
        return result.stdout, result.returncode

    def role_seen_by(self, container, *allowed):
        """Returns the role's name in the list that the container gets; None if the request fails with one of these exit statuses
        of curl: refused, an HTTP error (22), or one in `allowed`."""
        body, status = self.curl(container, f"http://{METADATA}{LIST}", "--fail")
        assert status in (0, CURL_REFUSED, 22, *allowed), f"curl: {status}"
        return body or None

    def wait_for_role(self, container, role):
        wait_until(lambda: self.role_seen_by(container) == role, what=f"a container's getting {role}")

    def restore(self):
        """Removes all containers, networks, rules and units of a test."""
        self.run("sh", "-c", """
            rm -rf /etc/containers/systemd/* /etc/containers/containers.conf.d
            systemctl daemon-reload
            podman rm --force --all --volumes --time 0; podman network prune --force; podman secret rm --all
            ec2-role-hook remove --all; ec2-role-guard off; nft flush ruleset
            for bridge in $(ip -o link show type bridge | cut -d: -f2); do ip link delete $bridge; done""")
