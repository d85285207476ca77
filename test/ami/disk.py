"""Makes the machine's disk image: Debian with cloud-init, Docker, and a container that polls the role's name from its start."""

import pathlib
import shutil
import subprocess

from images import busybox_tree, debian_tree

HERE = pathlib.Path(__file__).parent
PACKAGES = ("systemd,systemd-sysv,systemd-resolved,udev,dbus,linux-image-cloud-amd64,cloud-init,cloud-guest-utils,sudo,openssh-server,"
            "docker.io,apparmor,curl,iptables,iproute2,procps,qemu-guest-agent")
# systemd-networkd is enabled, as in Debian's own EC2 images, and so is the test's poller. The timers are disabled, because they
# need internet access.
ENABLED = ("systemd-networkd.service", "poller.service")
DISABLED = ("apt-daily.timer", "apt-daily-upgrade.timer")


class Disk:
    """A disk image. The kernel and the initrd are files beside the image, so the image needs no boot loader."""

    def __init__(self, directory):
        root = directory / "root"
        root.mkdir()
        subprocess.run(["tar", "--extract", "--file", debian_tree("ami", PACKAGES), "--directory", root], check=True)
        self._add_poller(root)
        for verb, units in ("enable", ENABLED), ("disable", DISABLED):
            subprocess.run(["systemctl", "--quiet", f"--root={root}", verb, *units], check=True)
        (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
        # C.UTF-8 is the only locale in the image; Debian's cloud-init would set en_US.
        (root / "etc/cloud/cloud.cfg.d/10_locale.cfg").write_text("locale: C.UTF-8\n")
        # mmdebstrap copied this file from the computer that runs the test. The virtual machine must ask systemd-resolved instead.
        (root / "etc/resolv.conf").unlink(missing_ok=True)
        (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
        self.kernel = self._take(root, "vmlinuz")
        self.initrd = self._take(root, "initrd.img")
        self.image = directory / "disk"
        with open(self.image, "wb") as image:
            image.truncate(3 << 30)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, self.image], check=True)
        shutil.rmtree(root)

    def _add_poller(self, root):
        shutil.copy(HERE / "poller.service", root / "etc/systemd/system")
        shared = root / "usr/local/share/poller"
        shared.mkdir(parents=True)
        (shared / "busybox.tar").write_bytes(busybox_tree())
        shutil.copy(HERE / "poll", shared)

    def _take(self, root, name):
        found, = (root / "boot").glob(f"{name}-*")
        return found.rename(root.parent / name)
