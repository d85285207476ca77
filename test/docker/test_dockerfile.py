"""scripts/Dockerfile, built with this machine's Rust toolchain in place of the official Rust image."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from images import debian_tree
from instance import REPOSITORY

TARGET = f"{os.uname().machine}-unknown-linux-musl"
# The packages of the official Rust image, and git, which scripts/setup would otherwise download.
PACKAGES = "gcc,libc6-dev,binutils,git,ca-certificates"
HOMES = ("ENV PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "
         "RUSTUP_HOME=/usr/local/rustup RUSTUP_TOOLCHAIN=here CARGO_HOME=/usr/local/cargo")


def output(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=REPOSITORY, **options).stdout


def add(tree, directory, into, *names):
    subprocess.run(["tar", "--append", f"--file={tree}", f"--directory={directory}", "--owner=0", "--group=0",
                    f"--transform=flags=r;s|^|{into}/|", *names], check=True)


@pytest.fixture(scope="module")
def rust_image(one_engine, tmp_path_factory):
    directory = tmp_path_factory.mktemp("rust")
    tree = shutil.copy(debian_tree("rust", PACKAGES), directory / "tree.tar")
    sysroot = pathlib.Path(output("bash", "-c", ". scripts/toolchain && rustc --print sysroot").strip())
    of_rustlib = ("components", "multirust-*", "manifest-*", TARGET, TARGET.replace("musl", "gnu"))
    add(tree, sysroot, "usr/local/rustup/toolchains/here", "bin/cargo", "bin/rustc",
        *(str(file.relative_to(sysroot)) for pattern in ("lib*.so*", *(f"rustlib/{name}" for name in of_rustlib)) for file in (sysroot / "lib").glob(pattern)))
    (directory / "bin").mkdir()
    shutil.copy(shutil.which("rustup"), directory / "bin/rustup", follow_symlinks=True)
    for proxy in ("cargo", "rustc"):
        (directory / "bin" / proxy).symlink_to("rustup")
    # Vendor the crates, because the engine has no internet access.
    configuration = output("cargo", "vendor", "--offline", "--locked", f"{directory}/vendor", stderr=subprocess.DEVNULL)
    (directory / "config.toml").write_text(configuration.replace(f"{directory}", "/usr/local/cargo"))
    add(tree, directory, "usr/local/cargo", "bin", "vendor", "config.toml")
    one_engine.docker("import", "--change", HOMES, tree, "rust", timeout=300)
    tree.unlink()
    return "rust"


def test_dockerfile_names_the_rust_of_releases():
    pinned = re.search(r"^rust=(.*)", (REPOSITORY / "scripts/toolchain").read_text(), re.M)[1]
    assert f"rust:{pinned}-" in (REPOSITORY / "scripts/Dockerfile").read_text()


def test_dockerfile_builds_what_scripts_image_builds(docker, ec2_role_image, rust_image, tmp_path):
    checkout = tmp_path / "ec2-role"
    output("git", "clone", "--quiet", REPOSITORY, checkout)
    for name in output("git", "ls-files", "--modified", "--others", "--exclude-standard").splitlines():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, checkout / name)
    built = subprocess.run(["docker", "build", "--network=none", "--file", checkout / "scripts/Dockerfile", "--build-arg", f"RUST={rust_image}",
                            "--tag", "ec2-role:from-source", checkout], env=docker.environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-1000:]
    ours, theirs = (json.loads(docker.docker("image", "inspect", image).stdout)[0] for image in ("ec2-role:from-source", "ec2-role"))
    theirs["Config"]["Healthcheck"].pop("StartInterval", None)
    for name in ("User", "Env", "ExposedPorts", "Healthcheck", "Entrypoint"):
        assert ours["Config"][name] == theirs["Config"][name], name
    assert ours["Config"]["Labels"].items() <= theirs["Config"]["Labels"].items()
    assert abs(ours["Size"] - theirs["Size"]) < 100_000
    version = re.match(r"ec2-role \S+ \([0-9a-f]{12}", docker.docker("run", "--rm", "ec2-role:from-source", "--version").stdout)
    assert version and docker.docker("run", "--rm", "ec2-role", "--version").stdout.startswith(version[0])
