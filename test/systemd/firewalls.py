"""Hosts with a real engine and a real firewall, both as Debian's packages set them up."""

import re

from host import ENGINE_INIT, ENGINE_OPTIONS, Host
from images import DOCKER_PACKAGES, busybox_tree, debian_tree, machine_suite, podman_tree
from readme import OPERATING
from instance import METADATA, REPOSITORY, wait_until
from real_metadata import HOST_ROLE, LIST

PACKAGES = "systemd,systemd-sysv,dbus,iproute2,iptables,nftables,curl,procps,python3,firewalld,ufw"
ASK = rf"printf 'GET {LIST} HTTP/1.0\r\n\r\n' | nc -w 1 {METADATA} 80 2>/dev/null | tail -n 1"
# Polls the role's name without end, and logs each answer that differs from the previous one.
POLL = f'while :; do now=$({ASK}); [ "$now" = "$last" ] || echo "${{now:-refused}}"; last=$now; sleep 0.03; done'
NFTABLES = """#!/usr/sbin/nft -f
flush ruleset
table inet filter {
  chain input {
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
    ct status dnat accept
  }
}
"""


class Docker:
    """One engine: the host's image, the command that restarts the engine, and a container that starts at each boot."""
    image = "docker-firewall-host"
    restart = "systemctl restart docker"
    program, busybox, bridge, gateway = "docker", "busybox", "docker0", "172.17.0.1"

    @classmethod
    def tree(cls):
        return debian_tree(cls.image, f"{PACKAGES},{DOCKER_PACKAGES},ca-certificates")

    def __init__(self, host):
        self._host = host
        self._run("import", "-", self.busybox, input=busybox_tree(), text=False)

    def _run(self, *arguments, **options):
        return self._host.run(self.program, *arguments, **options)

    def start_box(self):
        self._run("rm", "--force", "box", check=False)
        self._run("run", "--detach", "--restart", "always", "--stop-signal", "KILL", "--name", "box", self.busybox, "sh", "-c", POLL)

    def ask(self):
        return self._run("exec", "box", "sh", "-c", ASK, check=False).stdout.strip()

    def running(self):
        return self._run("inspect", "--format", "{{.State.Running}}", "box", check=False).stdout == "true\n"

    def remove_box(self):
        self._run("rm", "--force", "box")

    def log(self):
        return self._run("logs", "box").stdout.split("\n")


class Podman(Docker):
    image, tree = "podman-firewall-host", staticmethod(podman_tree)
    # Podman has no daemon. This command recreates each container's network and the engine's firewall rules.
    restart = "podman network reload --all"
    program, busybox, bridge, gateway = "podman", "docker.io/library/busybox", "podman0", "10.88.0.1"

    def __init__(self, host):
        host.run("systemctl", "enable", "podman-restart")
        super().__init__(host)


ENGINES = {"Docker": Docker, "Podman": Podman}
# The commands that turn each firewall on, reload it and restart it.
FIREWALLS = {
    "none": ("true", "true", "true"),
    "nftables": ("systemctl enable --now nftables", "systemctl reload nftables", "systemctl restart nftables"),
    "firewalld": ("systemctl enable --now firewalld", "firewall-cmd --reload", "systemctl restart firewalld"),
    # Without `ufw route allow`, ufw drops what Podman's containers send. Docker's containers need no such rule, because Docker's
    # rules precede those of ufw.
    "ufw": ("ufw --force enable; ufw route allow in on podman0", "ufw reload", "systemctl restart ufw"),
}


class FirewallHost(Host):
    options = (*ENGINE_OPTIONS, "--volume", "/var/lib/docker", "--volume", "/var/lib/containers")
    init = ENGINE_INIT

    def __init__(self, outer, engine, firewall):
        kind = ENGINES[engine]
        if kind.image not in outer.docker("images").stdout:
            outer.docker("import", kind.tree(), kind.image)
        super().__init__(outer, kind.image)
        try:
            turn_on, self._reload, self._restart = FIREWALLS[firewall]
            self.put(NFTABLES, "/etc/nftables.conf")
            self.run("sh", "-c", f"systemctl disable --now firewalld ufw nftables; ufw disable; nft flush ruleset; {turn_on}; {kind.restart}")
            self.engine = kind(self)
            self.engine.start_box()
            wait_until(lambda: self.seen() == HOST_ROLE, what="the host's role in the container, without ec2-role")
            self.engine.remove_box()
            self.put(f"[Socket]\nListenStream=\nListenStream={kind.gateway}:4567\n", "/etc/systemd/system/ec2-role@web.socket.d/address.conf")
            self.put(f"[Service]\nEnvironment=EC2_ROLE_BRIDGE={kind.bridge}\n", "/etc/systemd/system/ec2-role@web.service.d/bridge.conf")
            self.install()
            self.engine.start_box()
            self.hook()
        except BaseException:
            self.remove()
            raise

    def seen(self):
        return {"": "refused", "exc_web": "served"}.get(answer := self.engine.ask(), answer)

    def hooked(self):
        return self.run("ec2-role-hook", "status", check=False).stdout.endswith("ok: all hooks are in place, and the guard is on\n")

    def hook(self):
        """Runs the commands that scripts/README.md gives for refused containers, unless all hooks are in place."""
        if not self.hooked():
            self.run("sh", "-c", "systemctl restart ec2-role-hook ec2-role@web")
            assert self.hooked()
        wait_until(lambda: self.seen() == "served", what="the container's getting its role")

    def role_served(self):
        return self.seen()

    def guard_without_hook(self):
        self.run("ec2-role-hook", "remove", "--all")
        return self.seen()

    def after_a_flush(self):
        self.run("nft", "flush", "ruleset")
        seen = self.seen()
        # Restart the firewall, so that it is complete for the next test. A reload would fail, because the flush deleted
        # firewalld's table in nftables.
        self.run("sh", "-c", self._restart)
        return seen

    def after_a_reload(self):
        self.run("sh", "-c", self._reload)
        return self.seen()

    def after_a_restart(self):
        self.run("sh", "-c", self._restart)
        return self.seen()

    def after_the_engines_restart(self):
        self.run("sh", "-c", self.engine.restart)
        wait_until(self.engine.running, seconds=60, what="the container's restart")
        return self.seen()

    def after_a_boot(self):
        self.reboot()
        wait_until(self.engine.running, seconds=60, what="the container's restart")
        self.wait_until_active("ec2-role@web")
        return self.seen()


CELLS = (FirewallHost.role_served, FirewallHost.guard_without_hook, FirewallHost.after_a_flush, FirewallHost.after_a_reload,
         FirewallHost.after_a_restart, FirewallHost.after_the_engines_restart, FirewallHost.after_a_boot)


def rows():
    """The table of scripts/README.md: {(engine, firewall): what a container sees in each of CELLS}."""
    table = re.search(r"^\| Engine \| Firewall .*?\n\n", (REPOSITORY / OPERATING).read_text(), re.M | re.S)[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    return {(engine, firewall): [of_this_suite(cell) for cell in cells] for engine, firewall, *cells in lines}


def of_this_suite(cell):
    """A cell's value on this Debian: `refused (Debian 13: served)` means `refused` on Debian 12 and `served` on newer ones."""
    first, on_debian_13 = re.fullmatch(r"(\w+)(?: \(Debian 13: (\w+)\))?", cell).groups()
    return first if machine_suite() == "bookworm" else on_debian_13 or first
