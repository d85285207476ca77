"""Tests a role network of an engine with userns-remap, which hardening guides recommend: containers' users get uids that no user
of the host has."""

import shutil

from images import BUSYBOX, build_ec2_role, import_busybox
from instance import METADATA, first_in_path
from real_metadata import LIST
from role_networks import NETWORK
from rootless import ASK
from session import running_engine
from sts import ENDPOINT, Aws, arn


def test_role_network_works_with_userns_remap(tmp_path):
    # userns-remap needs a range of subordinate uids. Only dockerd sees this file, so the machine needs no such range.
    (tmp_path / "subuid").write_text("nobody:200000:65536\n")
    path = first_in_path(tmp_path, "dockerd", f"""
exec unshare --mount sh -euc '
    touch /etc/subuid /etc/subgid
    for file in /etc/subuid /etc/subgid; do mount --bind {tmp_path}/subuid $file; done
    exec {shutil.which("dockerd")} "$@"' sh "$@"
""")
    with running_engine() as engine, Aws(engine.instance):
        engine.stop()
        engine.directory.chmod(0o711)
        engine.environment["PATH"] = path
        engine.settings = {"userns-remap": "nobody:nogroup"}
        engine.start()
        assert "name=userns" in engine.docker("info", "--format", "{{.SecurityOptions}}").stdout
        import_busybox(engine)
        build_ec2_role(engine)
        engine.instance.run(NETWORK, "create", arn("php"), "--", "--endpoint-url", ENDPOINT)
        assert engine.docker("run", "--rm", "--network", "php", BUSYBOX, "sh", "-c", ASK, LIST, METADATA).stdout.endswith("\n\nphp")
