"""Makes the .deb and the .rpm, and installs, upgrades and removes them on hosts."""

import platform
import re
import subprocess

import pytest

from host import IMAGE, PACKAGES, Host
from images import PODMAN_SUITE, changed_tree, debian_tree, machine_suite, podman_tree
from instance import REPOSITORY, clean_environment

HOMEPAGE = "https://example.com/ec2-role"


def make(kind, root=REPOSITORY):
    return subprocess.run([root / "scripts/release", f"--{kind}"], check=True, capture_output=True, env=clean_environment()).stdout


def make_older(kind, directory):
    """Makes a package of this tree, but with a lower version, and with HOMEPAGE as the repository in Cargo.toml."""
    version = re.search(r'^version = "(.*)"', (REPOSITORY / "Cargo.toml").read_text(), re.M)[1]
    changes = ((f'name = "ec2-role"\nversion = "{version}"', 'name = "ec2-role"\nversion = "0.0.1"'),
               ('\nlicense = "MIT"', f'\nrepository = "{HOMEPAGE}"\nlicense = "MIT"'))
    return make(kind, changed_tree(directory, changes))


def import_suite(engine, suite):
    """Imports an image of a host with the Debian release `suite`, and returns the image's name."""
    if platform.freedesktop_os_release()["ID"] != "debian":
        pytest.skip("test_packages.py: this machine's sources are not Debian's")
    if suite == machine_suite():
        return IMAGE
    image = f"package-host-{suite}"
    engine.docker("import", podman_tree() if suite == PODMAN_SUITE else debian_tree(image, PACKAGES, suite), image)
    return image


class PackageHost(Host):
    """A host with the stand-in for Docker, and with the files `older` and `newer`: two packages of one kind (deb or rpm)."""

    def __init__(self, engine, image, kind, packages):
        super().__init__(engine, image)
        self.kind = kind
        self.install_docker()
        self.run("systemctl", "enable", "--now", "docker")
        if kind == "rpm":
            self.run("rpm", "--initdb")
        for name, content in zip(("older", "newer"), packages, strict=True):
            self.run("sh", "-c", f"cat >/srv/{name}", input=content, text=False)

    def install_package(self, name):
        """Installs a package over the installed one. (--nodeps: Debian's rpm does not know dpkg's packages.)"""
        installers = {"deb": ("dpkg", "--install"), "rpm": ("rpm", "--upgrade", "--oldpackage", "--replacepkgs", "--nodeps")}
        return self.run(*installers[self.kind], f"/srv/{name}")

    def remove_package(self):
        return self.run(*{"deb": ("dpkg", "--remove"), "rpm": ("rpm", "--erase")}[self.kind], "ec2-role")

    def serve(self):
        self.configure("web", "exc_web", EC2_ROLE_SAME_NETWORK="true")
        self.run("systemctl", "enable", "--now", "ec2-role-guard", "ec2-role-hook", "ec2-role@web.socket")
        self.wait_until_served()

    def payload(self):
        """A tar archive of the newer package's files."""
        extract = {"deb": "dpkg-deb --fsys-tarfile /srv/newer", "rpm": "rpm2archive - </srv/newer | gzip -d"}
        return self.run("sh", "-c", extract[self.kind], text=False).stdout

    def scripts(self):
        show = {"deb": "dpkg-deb --ctrl-tarfile /srv/newer | tar --to-stdout -x ./postinst ./prerm ./postrm",
                "rpm": "rpm --query --scripts --package /srv/newer"}
        return self.run("sh", "-c", show[self.kind]).stdout

    def requirements(self):
        show = {"deb": "dpkg-deb --field /srv/newer Depends", "rpm": "rpm --query --requires --package /srv/newer"}
        return re.split(r"[,\s]+", self.run("sh", "-c", show[self.kind]).stdout)

    def documentation(self):
        """The files that rpm lists as documentation, and as licences."""
        lists = ((kind, self.run("rpm", "--query", kind, "--package", "/srv/newer").stdout.split()) for kind in ("--docfiles", "--licensefiles"))
        return dict(lists)

    def homepage(self):
        show = {"deb": "dpkg-deb --field /srv/older Homepage", "rpm": "rpm --query --queryformat '%{URL}' --package /srv/older"}
        return self.run("sh", "-c", show[self.kind]).stdout.strip()

    def architecture(self):
        show = {"deb": "dpkg-deb --field /srv/newer Architecture", "rpm": "rpm --query --queryformat '%{ARCH}' --package /srv/newer"}
        names = {"deb": {"x86_64": "amd64", "aarch64": "arm64"}}.get(self.kind, {})
        return self.run("sh", "-c", show[self.kind]).stdout.strip(), names.get(platform.machine(), platform.machine())
