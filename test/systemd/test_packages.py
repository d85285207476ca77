"""The .deb and the .rpm: their contents, and the effects of installing, upgrading, removing and purging them on a serving
host."""

import concurrent.futures
import gzip
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import tomllib

import pytest

from host import SCRIPTS
from instance import REPOSITORY, clean_environment, first_in_path, wait_until
from instance_server import BINARY
from packages import HOMEPAGE, PackageHost, import_suite, make, make_older
from readme import OPERATING, block, command
from real_metadata import HOST_ROLE

UNIT = "ec2-role@web"
# The parts of a host's state that installing the package changes.
STATE = """
find /etc /usr /var/lib/dpkg/info /root /run/systemd/system -xdev | sort
iptables-save | grep '^-'; ip6tables-save | grep '^-'; ip rule; ip -6 rule
"""
UNITS = {file.name: file.read_text().replace("/usr/local/", "/usr/") for file in SCRIPTS.glob("ec2-role*.*")
         if file.suffix in (".service", ".socket", ".target")}
VERSION = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["package"]["version"]
PROGRAMS = {file.name: file.read_bytes() for file in SCRIPTS.glob("ec2-role-*") if file.stat().st_mode & 0o100}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The packages as {kind: (older, newer)}."""
    return {kind: (make_older(kind, tmp_path_factory.mktemp(kind)), make(kind)) for kind in ("deb", "rpm")}


@pytest.fixture(scope="module", params=["deb bookworm", "deb trixie", "rpm trixie"])
def package_host(request, engine, aws, packages):
    kind, suite = request.param.split()
    with PackageHost(engine, import_suite(engine, suite), kind, packages[kind]) as host:
        host.nothing_installed = host.run("sh", "-c", STATE).stdout
        yield host


@pytest.fixture
def packaged(package_host):
    """A host on which the older package is installed and one role is served."""
    package_host.install_package("older")
    package_host.serve()
    # Forget the responses that the stand-in's container got before the server was ready.
    package_host.run("truncate", "--size=0", "/var/log/answers")
    return package_host


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_package_build_is_reproducible(packages, kind):
    assert make(kind) == packages[kind][1]


# Lintian's objections that the test accepts. Those without a comment do not apply to a package that is made outside Debian.
ACCEPTED = {
    "bogus-mail-host", "bogus-mail-host-in-debian-changelog",  # the publisher writes an address into nfpm.yaml
    "copyright-file-contains-full-apache-2-license", "copyright-not-using-common-license-for-apache2",  # the .rpm has the same file
    "initial-upload-closes-no-bugs",
    "maintainer-script-calls-systemctl",  # Debian's helper would also restart the sockets, and start the units at installation
    "shared-library-lacks-prerequisites",  # the binary is static and position-independent
}


@pytest.mark.skipif(shutil.which("lintian") is None and not os.environ.get("CI"), reason="needs lintian")
def test_lintian_has_no_objection_to_the_deb(packages, tmp_path):
    (tmp_path / "ec2-role.deb").write_bytes(packages["deb"][1])
    said = subprocess.run(["lintian", "--allow-root", tmp_path / "ec2-role.deb"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    objections = dict(re.findall(r"^[EW]: ec2-role: (\S+)(.*)", said.stdout, re.M))
    assert "bogus-mail-host" in objections, said
    assert not objections.keys() - ACCEPTED, said.stdout


@pytest.mark.skipif(not (REPOSITORY / "target/tools/bin/cargo-cyclonedx").exists(), reason="scripts/release compiles cargo-cyclonedx first")
def test_bill_of_materials_lists_the_crates_of_the_binary():
    bill = json.loads(make("sbom"))
    tree = subprocess.run(["cargo", "tree", "--locked", "--target", "x86_64-unknown-linux-musl", "--edges", "normal", "--prefix", "none"],
                          cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    crates = {tuple(line.replace(" v", " ").split()[:2]) for line in tree.splitlines()} - {("ec2-role", VERSION)}
    assert {(component["name"], component["version"]) for component in bill["components"]} == crates
    names = {component["bom-ref"] for component in (bill["metadata"]["component"], *bill["components"])}
    assert {reference for crate in bill["dependencies"] for reference in (crate["ref"], *crate.get("dependsOn", ()))} == names


def release_tarball(**variables):
    return subprocess.run([SCRIPTS / "release", "--tarball"], capture_output=True, env=clean_environment(**variables))


def test_release_is_made_in_the_c_locale(tmp_path):
    """Other locales sort the sums otherwise. In Turkish, find misses LICENSE. With GBK, Python writes another bill of materials."""
    log = tmp_path / "locales"
    path = first_in_path(tmp_path, "tar", f'echo "$LC_ALL" >>{log}\nexec {shutil.which("tar")} "$@"')
    release_tarball(LC_ALL="tr_TR.UTF-8", PATH=path).check_returncode()
    assert log.read_text() == "C\n"


def test_release_has_the_licences_whatever_cargos_directory_is_called(tmp_path):
    home = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
    (tmp_path / "with space").symlink_to(home)
    made = release_tarball(CARGO_HOME=str(tmp_path / "with space"))
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        licences = archive.extractfile(f"ec2-role-{VERSION}-{os.uname().machine}/LICENSES").read()
    assert made.returncode == 0 and b"\n==== ring " in licences


def test_release_fails_without_the_crates_licences(tmp_path):
    configuration = subprocess.run(["cargo", "vendor", "--offline", "--locked", tmp_path / "vendor"], cwd=REPOSITORY, capture_output=True, check=True)
    (tmp_path / "config.toml").write_bytes(configuration.stdout)
    made = release_tarball(CARGO_HOME=str(tmp_path))
    assert made.returncode == 1 and b"licence is not there" in made.stderr and made.stdout == b""


@pytest.fixture(scope="module")
def manuals(tmp_path_factory):
    """The man pages and completions as {name: content}."""
    directory = tmp_path_factory.mktemp("manuals")
    commit_time = subprocess.run(["git", "show", "--no-patch", "--format=%ct"], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    subprocess.run([SCRIPTS / "manuals", directory, BINARY], check=True, env=clean_environment(SOURCE_DATE_EPOCH=commit_time.strip()))
    return {file.name: file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def test_package_installs_the_trees_files_in_standard_paths(package_host, manuals):
    archive = tarfile.open(fileobj=io.BytesIO(package_host.payload()))
    members = {f"/{member.name.lstrip('./')}": member for member in archive}
    files = {name: archive.extractfile(member).read() for name, member in members.items() if member.isfile()}
    pages = {name: gzip.decompress(files.pop(name)) for name in list(files) if name.startswith("/usr/share/man/")}
    assert pages == {f"/usr/share/man/man8/{name}.gz": content for name, content in manuals.items() if name.endswith(".8")}
    zsh = {"deb": "vendor-completions", "rpm": "site-functions"}[package_host.kind]
    licence = {"deb": "/usr/share/doc/ec2-role/copyright", "rpm": "/usr/share/licenses/ec2-role/LICENSE"}[package_host.kind]
    assert files.pop(licence).startswith((REPOSITORY / "LICENSE").read_bytes())
    if package_host.kind == "deb":
        changes = gzip.decompress(files.pop("/usr/share/doc/ec2-role/changelog.Debian.gz")).decode()
        assert re.match(rf"ec2-role \({VERSION}-1\) stable; .*\n.* {VERSION}: ", changes), changes
    assert files == {
        "/usr/bin/ec2-role": pathlib.Path(BINARY).read_bytes(),
        **{f"/usr/sbin/{name}": content for name, content in PROGRAMS.items()},
        **{f"/usr/lib/systemd/system/{name}": content.encode() for name, content in UNITS.items()},
        "/etc/ec2-role/ec2-role.conf.sample": (SCRIPTS / "ec2-role.conf.sample").read_bytes(),
        "/usr/share/bash-completion/completions/ec2-role": manuals["ec2-role.bash"],
        "/usr/share/fish/vendor_completions.d/ec2-role.fish": manuals["ec2-role.fish"],
        f"/usr/share/zsh/{zsh}/_ec2-role": manuals["_ec2-role"],
        **{f"/usr/share/doc/ec2-role/{page}": (REPOSITORY / page).read_bytes() for page in ("README.md", "scripts/README.md")},
        "/usr/share/doc/ec2-role/ec2-role.rules.yml": (SCRIPTS / "ec2-role.rules.yml").read_bytes(),
    }
    for name in files:
        assert members[name].mode & 0o7777 == (0o755 if "bin/" in name else 0o644), name
        assert (members[name].uid, members[name].gid) == (0, 0), name


@pytest.mark.parametrize("package_host", ["rpm trixie"], indirect=True)
def test_rpm_marks_documentation_and_licence_files(package_host):
    pages = {f"/usr/share/man/man8/{name}.8.gz" for name in ("ec2-role", *PROGRAMS)}
    readmes = {f"/usr/share/doc/ec2-role/{name}" for name in ("README.md", "scripts/README.md", "ec2-role.rules.yml")}
    listed = package_host.documentation()
    assert set(listed["--docfiles"]) == pages | readmes
    assert listed["--licensefiles"] == ["/usr/share/licenses/ec2-role/LICENSE"]


def test_package_has_the_scripts_and_declares_dependencies(package_host):
    for name in ("postinstall", "preremove", "postremove"):
        assert (SCRIPTS / "package" / name).read_text().strip() in package_host.scripts(), name
    assert {"iptables", "iproute2" if package_host.kind == "deb" else "iproute"} <= set(package_host.requirements())
    found, expected = package_host.architecture()
    assert found == expected
    assert package_host.homepage() == HOMEPAGE


def test_installation_alone_starts_nothing(package_host):
    package_host.install_package("older")
    package_host.remove_package()
    package_host.install_package("newer")
    assert package_host.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "ec2-role@*").stdout == ""
    assert set(package_host.run("systemctl", "is-enabled", "ec2-role-guard", "ec2-role-hook", check=False).stdout.split()) == {"disabled"}


def test_systemd_accepts_the_packaged_units(packaged):
    result = packaged.run("systemd-analyze", "verify", *(name.replace("@.", "@web.") for name in UNITS), check=False)
    assert "ec2-role" not in result.stderr, result.stderr


def test_upgrade_under_load_refuses_no_connection(packaged):
    pid, docker = packaged.show(UNIT, "MainPID"), packaged.show("docker", "MainPID")
    with packaged.under_load():
        packaged.install_package("newer")
        wait_until(lambda: packaged.show(UNIT, "MainPID") not in (pid, "0") and packaged.show(UNIT, "ActiveState") == "active",
                   what="the restart")
    new = packaged.show(UNIT, "MainPID")
    # If the process still ran the replaced file, this link would end in " (deleted)".
    assert packaged.run("readlink", f"/proc/{new}/exe").stdout.strip() == "/usr/bin/ec2-role"
    assert packaged.show("docker", "MainPID") == docker
    assert packaged.show("ec2-role-guard", "ActiveState") == packaged.show("ec2-role-hook", "ActiveState") == "active"


@pytest.mark.parametrize("package_host", ["deb bookworm"], indirect=True)
def test_upgrade_stops_no_server_while_the_hook_restarts(packaged):
    packaged.put("[Service]\nExecStartPre=/bin/sh -c 'read -r line </run/go'\n", "/etc/systemd/system/ec2-role-hook.service.d/wait.conf")
    packaged.run("sh", "-c", "mkfifo /run/go && systemctl daemon-reload")
    pid = packaged.show(UNIT, "MainPID")
    with concurrent.futures.ThreadPoolExecutor(1) as upgrades:
        upgrade = upgrades.submit(packaged.install_package, "newer")
        try:
            wait_until(lambda: packaged.show("ec2-role-hook", "ActiveState") == "activating", what="the hook's restart")
            assert packaged.ask() == (200, "exc_web")
        finally:
            packaged.run("sh", "-c", "rm -r /etc/systemd/system/ec2-role-hook.service.d; echo >/run/go")
        upgrade.result()
    wait_until(lambda: packaged.show(UNIT, "MainPID") not in (pid, "0"), what="the server's restart")


def test_removal_stops_the_server_but_never_shows_the_hosts_role(packaged):
    docker = packaged.show("docker", "MainPID")
    removal = packaged.remove_package()
    assert packaged.ask(seconds=1) is None
    assert packaged.run("pgrep", "-f", "/usr/bin/ec2-role", check=False).stdout == ""
    assert packaged.show("docker", "MainPID") == docker
    assert packaged.run("find", "/etc/systemd/system", "-name", "ec2-role*").stdout == ""
    assert "EC2_ROLE_ARN" in packaged.run("cat", "/etc/ec2-role/web.conf").stdout
    assert HOST_ROLE not in packaged.run("cat", "/var/log/answers").stdout
    # The output of the removal has the command that turns off the guard.
    lift = re.search(r"ec2-role: the guard stays on .*To lift it now: (.*)", removal.stderr)[1]
    assert "ec2-role-guard" not in removal.stderr, "a command that is gone"
    packaged.run("sh", "-c", lift)
    wait_until(lambda: packaged.ask() == (200, HOST_ROLE), what="the host's role in a container")


@pytest.mark.parametrize("package_host", ["deb bookworm", "rpm trixie"], indirect=True)
def test_package_replaces_a_tarball_as_the_readme_says(package_host):
    host = package_host
    host.install()
    host.wait_until_served()
    assert "ec2-role: a tarball's files in /etc/systemd/system and /usr/local come before this package's" in host.install_package("newer").stderr
    docker = host.show("docker", "MainPID")
    with host.under_load():
        host.run("sh", "-euc", block("Packages", "sh", page=OPERATING))
        host.wait_until_active(UNIT)
    assert host.run("readlink", f"/proc/{host.show(UNIT, 'MainPID')}/exe").stdout.strip() == "/usr/bin/ec2-role"
    assert "/usr/sbin/ec2-role-guard" in host.show("ec2-role-guard", "ExecStart")
    host.remove_package()
    assert host.run("find", "/etc/systemd/system", "-name", "ec2-role*").stdout == ""
    assert host.show("docker", "MainPID") == docker


# Only dpkg has a purge.
@pytest.mark.parametrize("package_host", ["deb bookworm", "deb trixie"], indirect=True)
def test_purge_leaves_nothing(packaged):
    docker = packaged.show("docker", "MainPID")
    packaged.put("[Socket]\nBacklog=64\n", "/etc/systemd/system/ec2-role@web.socket.d/override.conf")
    # apt-get first removes the package (said[0]) and then purges it (said[1:]). The stdout of apt-get includes what the package's
    # scripts write to stderr.
    said = re.findall(r"^ec2-role.*", packaged.run("apt-get", "--yes", "purge", "ec2-role").stdout, re.M)
    assert "the guard stays on until the next boot or, with dpkg, a purge" in said[0]
    assert said[1:] == ["ec2-role: purged, and the guard lifted: containers have this host's role"]
    assert packaged.run("sh", "-c", STATE).stdout == packaged.nothing_installed
    wait_until(lambda: packaged.ask() == (200, HOST_ROLE), what="the host's role in a container")
    # A new installation does not turn the guard on, so its purge has no guard to lift and prints nothing to stderr.
    packaged.install_package("newer")
    rules = packaged.run("ip", "rule").stdout
    purge = packaged.run("dpkg", "--purge", "ec2-role")
    assert "169.254.169.254" not in rules and purge.stderr == ""
    assert packaged.show("docker", "MainPID") == docker


@pytest.mark.parametrize("package_host", ["deb bookworm"], indirect=True)
def test_purge_leaves_a_later_tarball_with_its_guard(package_host):
    """`apt purge ~c` purges every package that was removed, perhaps long ago."""
    host = package_host
    host.install_package("newer")
    host.remove_package()
    host.install()
    host.wait_until_served()
    host.run("dpkg", "--purge", "ec2-role")
    host.run("ec2-role-guard", "status")
    host.run("systemctl", "restart", UNIT)
    host.wait_until_served()
    host.uninstall()


@pytest.mark.parametrize("package_host", ["deb bookworm", "rpm trixie"], indirect=True)
def test_removal_leaves_a_tarball_that_has_replaced_the_package(packaged):
    packaged.install()
    packaged.run("systemctl", "restart", "ec2-role-hook", UNIT)
    packaged.remove_package()
    for _ in range(2):
        packaged.wait_until_served()
        packaged.run("ec2-role-guard", "status")
        packaged.reboot()
    packaged.uninstall()


@pytest.mark.parametrize("package_host", ["deb bookworm", "rpm trixie"], indirect=True)
def test_units_that_the_user_edited_are_not_taken_for_a_tarballs(packaged):
    """`systemctl edit --full` copies a unit to /etc/systemd/system, where a tarball's units are."""
    edited = [f"/etc/systemd/system/{name}" for name in ("ec2-role-guard.service", "ec2-role@.service")]
    packaged.run("sh", "-c", "cd /usr/lib/systemd/system && cp ec2-role-guard.service ec2-role@.service /etc/systemd/system")
    packaged.run("systemctl", "reenable", "ec2-role-guard")
    try:
        upgrade = packaged.install_package("newer")
        removal = packaged.remove_package()
        assert "tarball" not in upgrade.stdout + upgrade.stderr + removal.stdout + removal.stderr
        # Docker would not start if the guard's unit stayed enabled without its script.
        assert packaged.run("find", "/etc/systemd/system", "-name", "ec2-role*", "-type", "l").stdout == ""
        assert packaged.show(UNIT, "ActiveState") != "active"
    finally:
        packaged.run("rm", *edited)
        packaged.run("systemctl", "daemon-reload")


@pytest.mark.parametrize("package_host", ["deb bookworm"], indirect=True)
def test_apt_installs_another_build_of_a_version_as_readme_says(package_host):
    package_host.install_package("newer")
    package_host.run("sh", "-euc", """cd /srv
        dpkg-deb --raw-extract newer build
        echo '# Another build' >>build/usr/sbin/ec2-role-hook
        dpkg-deb --build build other.deb""")
    has_it = ("grep", "Another build", "/usr/sbin/ec2-role-hook")
    package_host.run("sh", "-euc", "cd /srv && apt-get install --yes ./other.deb")
    assert package_host.run(*has_it, check=False).returncode == 1, "--reinstall is not needed"
    reinstall = command("apt-get install --reinstall", OPERATING).replace("FILE", "other.deb")
    package_host.run("sh", "-euc", f"cd /srv && {reinstall}")
    package_host.run(*has_it)
