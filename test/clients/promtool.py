#!/usr/bin/env python3
"""Extracts promtool from Debian's package into target without installing the package: before Debian 13 the package is Prometheus
itself, and its installation would start a server. scripts/setup runs this script, because the tests have no network."""

import pathlib
import shutil
import subprocess
import tempfile

PROMTOOL = pathlib.Path(__file__).resolve().parents[2] / "target/promtool"


def main():
    if PROMTOOL.exists() or shutil.which("apt-get") is None:
        return
    # The directory is on promtool's file system, so that an interrupted move leaves no incomplete promtool.
    with tempfile.TemporaryDirectory(dir=PROMTOOL.parent) as directory:
        download = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download"]
        if subprocess.run([*download, "promtool"], cwd=directory, stderr=subprocess.DEVNULL).returncode != 0:
            subprocess.run([*download, "prometheus"], cwd=directory, check=True)
        subprocess.run(["dpkg-deb", "--extract", *pathlib.Path(directory).glob("*.deb"), directory], check=True)
        shutil.move(f"{directory}/usr/bin/promtool", PROMTOOL)


if __name__ == "__main__":
    main()
