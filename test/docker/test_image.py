"""The image contains one file, runs confined, and stops at once."""

import io
import json
import os
import re
import subprocess
import tarfile
import tomllib

import pytest

from containers import role_name, start_client
from images import build_ec2_role, changed_tree
from instance import REPOSITORY, first_in_path, wait_until
from sts import ENDPOINT, arn

pytestmark = pytest.mark.usefixtures("client_image", "aws")

CONFINED = ("--network", "host", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
            "--memory", "16m", "--env", f"EC2_ROLE_ENDPOINT_URL={ENDPOINT}", "--env", "EC2_ROLE_LISTEN=172.17.0.1:4567")


@pytest.fixture
def server(docker, ec2_role_image):
    # Run the image with its own stop signal, as an operator does; `docker.run` would set the stop signal KILL.
    started = docker.docker("run", "--detach", *CONFINED, "ec2-role", arn("exc_web")).stdout.strip()
    wait_until(lambda: "credential of" in docker.log(started), what="the first credential")
    return started


def test_image_has_only_the_binary_and_runs_as_nobody(docker, ec2_role_image):
    made = docker.docker("create", "ec2-role").stdout.strip()
    exported = tarfile.open(fileobj=io.BytesIO(docker.docker("export", made, text=False).stdout))
    # Docker adds these files to every container as mount points.
    dockers = {"dev", "etc", "proc", "sys", "dev/console", "dev/pts", "dev/shm", ".dockerenv",
               "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"}
    files = {member.name.rstrip("/"): member for member in exported.getmembers()}
    assert set(files) - dockers == {"ec2-role"}
    assert files["ec2-role"].mode & 0o7777 == 0o755
    image = json.loads(docker.docker("image", "inspect", "ec2-role").stdout)[0]
    assert image["Config"]["User"] == "65534:65534"
    assert image["Config"]["Entrypoint"] == ["/ec2-role"]
    assert "EC2_ROLE_LISTEN=0.0.0.0:4567" in image["Config"]["Env"]
    assert image["Config"]["Healthcheck"]["Test"] == ["CMD", "/ec2-role", "--check"]
    assert image["Size"] == files["ec2-role"].size
    assert re.search(rf"linux/{image['Architecture']}: {image['Size']} bytes; target/image/.*\.tar: \d+ bytes", ec2_role_image)


def commit():
    """The version that scripts/build writes into the binary: the commit, marked if the tree has changes."""
    git = lambda *arguments: subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()
    return git("rev-parse", "--short=12", "HEAD") + ("-changed" if git("status", "--porcelain", "--untracked-files=no") else "")


def test_image_has_the_binary_of_the_trees_commit(docker, ec2_role_image):
    assert f"({commit()})" in docker.docker("run", "--rm", "ec2-role", "--version").stdout


def test_build_ignores_the_users_cargo_target_directory(tmp_path):
    """Otherwise scripts/image would take the binary of an earlier build from target, or find none."""
    elsewhere = tmp_path / "target"
    subprocess.run([REPOSITORY / "scripts/build"], env={**os.environ, "CARGO_TARGET_DIR": str(elsewhere)}, capture_output=True, check=True)
    assert not elsewhere.exists()


def test_build_ignores_the_users_compiler_options(tmp_path):
    """Otherwise the binary differs from what TOOLCHAIN promises, and with -march=native it runs on no older processor."""
    path = first_in_path(tmp_path, "cargo", '[ "$1" != build ] || { env; exit 1; }')
    options = dict.fromkeys(("CFLAGS", "TARGET_CFLAGS", "CFLAGS_x86_64_unknown_linux_musl", "CARGO_PROFILE_RELEASE_LTO", "CARGO_BUILD_TARGET"), "-march=users")
    build = subprocess.run([REPOSITORY / "scripts/build"], capture_output=True, text=True, env={**os.environ, **options, "PATH": path})
    assert "\nCFLAGS=-U_FORTIFY_SOURCE " in build.stdout and "-march" not in build.stdout


def test_image_of_an_earlier_run_is_not_saved_as_the_new_one(tmp_path):
    """With DOCKER_BUILDKIT=1 and a builder in a container (BUILDX_BUILDER), docker build leaves the image with the builder."""
    path = first_in_path(tmp_path, "docker", """
case $1 in version) echo 28 ;; build) echo sha256:new ;; tag) [ "$2" != sha256:new ] ;; *) echo "earlier image" ;; esac
""")
    made = subprocess.run([REPOSITORY / "scripts/image"], capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert made.returncode == 1 and "earlier image" not in made.stdout


def configuration(docker, image):
    configured = json.loads(docker.docker("image", "inspect", image).stdout)[0]["Config"]
    return {name: configured[name] for name in ("User", "Env", "ExposedPorts", "Healthcheck", "Entrypoint", "StopSignal", "Labels")}


def test_release_image_matches_the_built_one_and_is_healthy(docker, ec2_role_image):
    built = configuration(docker, "ec2-role")
    docker.docker("tag", "ec2-role", "ec2-role:built")
    tarball = subprocess.run([REPOSITORY / "scripts/release", "--image"], capture_output=True, check=True, env=docker.environment).stdout
    loaded = re.findall(r"Loaded image: (\S+)", docker.docker("load", input=tarball, text=False).stdout.decode())
    try:
        assert "ec2-role:latest" in loaded and configuration(docker, "ec2-role") == built
        assert f"({commit()})" in docker.docker("run", "--rm", "ec2-role", "--version").stdout
        started = docker.run(*CONFINED, "--health-interval", "500ms", "ec2-role", arn("exc_web"))
        wait_until(lambda: docker.inspect(started, "{{.State.Health.Status}}") == "healthy", what="healthy")
    finally:
        docker.docker("tag", "ec2-role:built", "ec2-role")


def test_image_labels_name_the_version_and_all_licences(docker, ec2_role_image):
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in configuration(docker, "ec2-role")["Labels"].items()}
    manifest = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["package"]
    assert labels["title"] == manifest["name"] and labels["version"] == manifest["version"]
    assert labels["revision"].startswith(commit().removesuffix("-changed"))
    assert labels.get("source") == manifest.get("repository")
    licences = set(labels["licenses"].split(" AND "))
    assert manifest["license"] in licences
    crates = subprocess.run(["cargo", "tree", "--locked", "--edges", "normal", "--prefix", "none", "--no-dedupe", "--format", "{l}"],
                            cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for expression in set(crates.splitlines()) - {""}:
        for choice in re.sub("[()]", "", expression).split(" AND "):
            assert licences & set(re.split(r" OR |/", choice)), expression


def config_of_a_releases_image(tree):
    tarball = subprocess.run([tree / "scripts/release", "--image"], capture_output=True, check=True)
    assert b"fatal" not in tarball.stderr
    with tarfile.open(fileobj=io.BytesIO(tarball.stdout)) as archive:
        return json.load(archive.extractfile("config.json"))["config"]


def test_image_source_label_is_the_manifests_repository(tmp_path):
    tree = changed_tree(tmp_path, [('\nlicense = "MIT"\n', '\nlicense = "MIT"\nrepository = "https://example.com/fork"\n')])
    assert config_of_a_releases_image(tree)["Labels"]["org.opencontainers.image.source"] == "https://example.com/fork"


def test_image_of_a_tree_without_git_has_an_unknown_commit(docker, ec2_role_image, tmp_path):
    # The directory around the tree is another project's repository. Its commit must not become that of ec2-role.
    for command in ("init --quiet", "-c user.name=other -c user.email=other@localhost commit --quiet --allow-empty --message other"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    (tmp_path / "ec2-role").mkdir()
    tree = changed_tree(tmp_path / "ec2-role", without=[".git"])
    released = config_of_a_releases_image(tree)["Labels"]
    assert released == {name: value for name, value in configuration(docker, "ec2-role")["Labels"].items() if not name.endswith(".revision")}
    # This cargo builds nothing. It prints the commit that --version would print.
    path = first_in_path(tmp_path, "cargo", '[ "$1" != build ] || { echo "commit: $EC2_ROLE_COMMIT"; exit 1; }')
    build = subprocess.run([tree / "scripts/build"], capture_output=True, text=True, env={**docker.environment, "PATH": path})
    assert "commit: unknown commit" in build.stdout and build.stderr == ""
    (tree / "scripts/build").write_text("#!/bin/sh\n")
    image = subprocess.run([tree / "scripts/image", "--tag", "ec2-role:no-git"], capture_output=True, text=True, check=True, env=docker.environment)
    assert "fatal" not in image.stderr and configuration(docker, "ec2-role:no-git")["Labels"] == released


def test_commit_is_that_of_the_tree_in_another_repositorys_hook(tmp_path):
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    environment = {**os.environ, "GIT_DIR": f"{tmp_path}/.git", "GIT_WORK_TREE": str(tmp_path), "GIT_INDEX_FILE": f"{tmp_path}/.git/index"}
    asked = subprocess.run(["bash", "-c", f". {REPOSITORY}/scripts/common; commit; env"], capture_output=True, text=True, env=environment)
    assert asked.stdout.startswith(commit().removesuffix("-changed")) and str(tmp_path) not in asked.stdout


def test_repository_that_git_refuses_is_reported(tmp_path):
    """In a CI system's container the tree is often another user's. Without the report, the build's commit is unknown for no visible reason."""
    tree = changed_tree(tmp_path, without=[".git"])
    subprocess.run(["git", "init", "--quiet"], cwd=tree, check=True)
    for file in (tree, tree / ".git"):
        os.chown(file, 1234, 1234)
    environment = {name: value for name, value in os.environ.items() if name != "SUDO_UID"}
    asked = subprocess.run(["bash", "-c", f"set -e; . {tree}/scripts/common; commit; echo ended"], capture_output=True, text=True,
                           env={**environment, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"})
    assert asked.stdout == "ended\n" and "safe.directory" in asked.stderr


def test_image_for_the_other_architecture_names_it(docker):
    other = {"x86_64": ("aarch64", "arm64"), "aarch64": ("x86_64", "amd64")}[os.uname().machine]
    if not (REPOSITORY / f"target/{other[0]}-unknown-linux-musl/release/ec2-role").exists() and not os.environ.get("CI"):
        pytest.skip("scripts/build --all makes the binary for it, and installs a compiler first")
    printed = build_ec2_role(docker, "--arch", other[1], "--tag", "ec2-role:other")
    assert f"linux/{other[1]}: " in printed
    assert docker.docker("image", "inspect", "--format", "{{.Architecture}}", "ec2-role:other").stdout.strip() == other[1]


def test_image_serves_confined_and_in_16_mb(docker, server):
    docker.instance.hook("add")
    container = start_client(docker)
    for _ in range(20):
        assert role_name(docker, container) == "exc_web"
    state = json.loads(docker.docker("inspect", server).stdout)[0]["State"]
    assert state["Running"] and not state["OOMKilled"]


def test_docker_stop_exits_0_within_a_second(docker, server):
    # If the server still ran a second after the stop signal, Docker would kill it, and its exit code would be 137.
    docker.docker("stop", "--time", "1", server)
    assert docker.inspect(server, "{{.State.ExitCode}}") == "0"
    assert "ended by SIGTERM" in docker.log(server)


def test_docker_restart_serves_the_role_again(docker, server):
    docker.instance.hook("add")
    container = start_client(docker)
    assert role_name(docker, container) == "exc_web"
    docker.docker("restart", server)
    wait_until(lambda: role_name(docker, container) == "exc_web", what="the role after the restart")


def test_container_is_healthy_before_the_first_interval_ends(docker, ec2_role_image):
    if int(docker.docker("version", "--format", "{{.Server.Version}}").stdout.split(".")[0]) < 25:
        pytest.skip("Docker knows --start-interval from 25 on")
    started = docker.run(*CONFINED, "ec2-role", arn("exc_web"))
    wait_until(lambda: docker.inspect(started, "{{.State.Health.Status}}") == "healthy", seconds=4, what="healthy")


def test_docker_reports_a_serving_container_as_healthy(docker, ec2_role_image):
    started = docker.run(*CONFINED, "--health-interval", "500ms", "ec2-role", arn("exc_web"))
    wait_until(lambda: docker.inspect(started, "{{.State.Health.Status}}") == "healthy", what="healthy")
