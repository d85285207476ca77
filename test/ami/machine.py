"""Boots a virtual machine in QEMU, with the hardware identity by which cloud-init recognises EC2, and runs commands in it."""

import subprocess

from guest_agent import GuestAgent
from instance import REPOSITORY, clean_environment, wait_until
from surroundings import CABLE, MAC
from systemd_host import METADATA, SystemdHost

# cloud-init recognises EC2 by a DMI serial number that begins with ec2 and equals the DMI UUID.
SERIAL = "ec20c0de-0000-4000-8000-000000000001"
CONSOLE = REPOSITORY / "target/ami/console"  # kept after the run, for diagnosis
BOOT_SECONDS = 600  # long, because emulation is slow, above all on a busy machine

# panic=1 ends QEMU after a kernel panic: the kernel reboots, and with -no-reboot QEMU then exits. no_timer_check skips the
# kernel's check of its timer at boot, because a late emulated interrupt would make this check panic.
KERNEL = "panic=1 no_timer_check"


class Machine(SystemdHost):
    def __init__(self, surroundings, disk, directory):
        self._surroundings, self._disk = surroundings, disk
        CONSOLE.parent.mkdir(parents=True, exist_ok=True)
        CONSOLE.write_text("")
        self._socket = directory / "agent"
        self._agent = GuestAgent(self._socket)
        self._start()

    def _start(self):
        with self._surroundings.aws:
            self._qemu = subprocess.Popen([
                # The kernel kills QEMU when the test process dies.
                "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
                "-machine", "q35", "-accel", "tcg", "-smp", "2", "-m", "1024", "-device", "virtio-rng-pci",
                "-smbios", f"type=1,manufacturer=Amazon EC2,product=t3.small,serial={SERIAL},uuid={SERIAL}",
                "-kernel", self._disk.kernel, "-initrd", self._disk.initrd, "-append", f"root=/dev/vda ro console=ttyS0 {KERNEL}",
                "-drive", f"file={self._disk.image},format=raw,if=virtio",
                "-netdev", f"tap,id=cable,ifname={CABLE},script=no,downscript=no",
                "-device", f"virtio-net-pci,netdev=cable,mac={MAC},romfile=",
                "-chardev", f"file,id=console,path={CONSOLE},append=on", "-serial", "chardev:console",
                "-chardev", f"socket,id=agent,path={self._socket},server=on,wait=off", "-device", "virtio-serial-pci",
                "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
                # QEMU exits instead of rebooting, so that the tests can wait for a shutdown or a panic; `reboot` starts it again.
                "-no-reboot",
            ], stdin=subprocess.DEVNULL, env=clean_environment())

    def wait_until_it_can_be_asked(self):
        wait_until(self._can_be_asked, BOOT_SECONDS, what=f"an answer of the guest agent ({CONSOLE} says how far the boot came)")

    def _can_be_asked(self):
        if self._qemu.poll() is not None:
            raise AssertionError(f"QEMU ended with {self._qemu.returncode}; {CONSOLE} ends with:\n{self.console()[-3000:]}")
        return self._agent.connect()

    def cloud_init(self):
        """Waits until cloud-init is done and returns its final status."""
        return self.execute("cloud-init", "status", "--wait", "--long", timeout=BOOT_SECONDS).stdout

    def reboot(self):
        self.run("systemctl", "reboot", "--no-block")
        self._qemu.wait(BOOT_SECONDS)
        self._start()
        self.wait_until_it_can_be_asked()

    def execute(self, *command, **options):
        return self._agent.run(*command, **options)

    def console(self):
        return CONSOLE.read_text(errors="replace")

    @property
    def container_namespace(self):
        """The network namespace of the only container. Listing files is faster than a Docker command, which takes a second."""
        return self.run("sh", "-c", "echo /run/docker/netns/*").stdout.strip()

    def said(self, unit):
        """The lines that a unit wrote to the journal, without the access log."""
        journal = self.run("journalctl", "--no-pager", "--output=cat", f"--identifier={unit}").stdout
        return [line for line in journal.splitlines() if line.startswith("ec2-role")]

    def answers(self):
        """The lines of `poll`: `started` at each start of the container, and each result that differs from the one before."""
        return self.run("cat", "/var/log/poller/list", check=False).stdout.splitlines()

    def own_role(self):
        """The role that the real metadata service gives the machine itself."""
        token = self.run("curl", "--silent", "--fail", "--request", "PUT", "--header",
                         "X-aws-ec2-metadata-token-ttl-seconds: 300", f"{METADATA}/latest/api/token").stdout
        return self.run("curl", "--silent", "--fail", "--max-time", "5", "--header", f"X-aws-ec2-metadata-token: {token}",
                        f"{METADATA}/latest/meta-data/iam/security-credentials/").stdout

    def remove(self):
        self._agent.close()
        self._qemu.kill()
        self._qemu.wait(10)
