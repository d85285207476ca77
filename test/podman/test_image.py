"""Tests scripts/image with Podman."""

import json
import re


def test_podman_image_and_its_tarball_have_the_healthcheck(host):
    image = json.loads(host.podman("image", "inspect", "ec2-role").stdout)[0]
    assert image["Healthcheck"]["Test"] == ["CMD", "/ec2-role", "--check"]
    assert image["Config"]["Entrypoint"] == ["/ec2-role"] and image["Config"]["User"] == "65534:65534"
    said = re.fullmatch(rf"ec2-role:latest for linux/{image['Architecture']}: \d+ bytes; (target/image/\S+): (\d+) bytes\n", host.image_says)
    # The tarball of the image contains the health check too: the loaded image has the same one.
    host.podman("tag", "ec2-role", "ec2-role:built")
    host.podman("load", "--input", f"/srv/tree/{said[1]}")
    loaded = json.loads(host.podman("image", "inspect", "ec2-role").stdout)[0]
    assert loaded["Healthcheck"] == image["Healthcheck"] and loaded["Config"] == image["Config"]
    wrong = host.run("/srv/tree/scripts/image", "--engine", "lxc", check=False)
    assert wrong.returncode == 2 and wrong.stderr == "image: --engine lxc: not known; docker or podman; see --help\n"
