"""Tests scripts/image with Podman."""

import json
import re


def test_podman_image_and_its_tarball_have_the_healthcheck(host):
    image = json.loads(host.podman("image", "inspect", "ec2-role").stdout)[0]
    assert image["Healthcheck"]["Test"] == ["CMD", "/ec2-role", "--check"]
    assert image["Config"]["Entrypoint"] == ["/ec2-role"] and image["Config"]["User"] == "65534:65534"
    said = re.fullmatch(rf"ec2-role:latest for linux/{image['Architecture']}: \d+ bytes; (target/image/\S+): (\d+) bytes\n", host.image_says)
    # A second run works too. Podman's --output alone would refuse it, because the first run's tarball already exists.
    assert host.build_image() == host.image_says
    # The tarball of the image contains the health check too: the loaded image has the same one.
    host.podman("tag", "ec2-role", "ec2-role:built")
    host.podman("load", "--input", f"/srv/tree/{said[1]}")
    loaded = json.loads(host.podman("image", "inspect", "ec2-role").stdout)[0]
    assert loaded["Healthcheck"] == image["Healthcheck"] and loaded["Config"] == image["Config"]
    wrong = host.run("/srv/tree/scripts/image", "--engine", "lxc", check=False)
    assert wrong.returncode == 2 and wrong.stderr == "image: --engine lxc: not known; docker or podman; see --help\n"


def test_podman_env_file_with_export_or_a_byte_order_mark_is_refused(host):
    """Podman takes all text before = as the variable's name. If ec2-role ignored such a name, it would listen on every address."""
    for line, name in (("export EC2_ROLE_LISTEN=127.0.0.1:1", "export EC2_ROLE_LISTEN"), ("\ufeffEC2_ROLE_LISTEN=127.0.0.1:1", "\\u{feff}EC2_ROLE_LISTEN")):
        host.put(f"{line}\n", "/tmp/variables")
        ended = host.podman("run", "--rm", "--timeout", "10", "--env-file", "/tmp/variables", "ec2-role", "arn:aws:iam::123456789012:role/web", check=False)
        assert ended.returncode == 2 and f"{name}: there is no such variable" in ended.stderr, ended
