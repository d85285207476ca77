"""A minimal host: Debian with systemd as PID 1 in a container, Docker played by a unit that makes its bridge and one container."""

import itertools
import json
import pathlib

from images import debian_tree
from instance import REPOSITORY, wait_until
from instance_server import BINARY
from sts import ENDPOINT, arn

HERE = pathlib.Path(__file__).parent
SCRIPTS = REPOSITORY / "scripts"
IMAGE = "systemd"
PACKAGES = "systemd,systemd-sysv,dbus,iproute2,iptables,curl,procps,python3,cloud-init"
NETWORK, SUBNET = "hosts", "10.88.0.0/24"
UNITS = ("ec2-role@.service", "ec2-role@.socket", "ec2-role-hook.service")
METADATA = "http://169.254.169.254"
LIST = "/latest/meta-data/iam/security-credentials/"
CONTAINER = "/run/netns/container"
_number = itertools.count()


def import_tree(engine):
    engine.docker("import", debian_tree(IMAGE, PACKAGES), IMAGE)
    engine.docker("network", "create", "--subnet", SUBNET, NETWORK)


class Host:
    def __init__(self, engine):
        self._engine = engine
        self.real_metadata = engine.instance.real_metadata
        self.real_metadata_namespace = engine.instance.aws
        self.container = engine.run(
            "--name", f"host-{next(_number)}", "--network", NETWORK,
            "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--cap-add", "SYS_PTRACE",
            "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
            "--cgroupns=host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup",
            "--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "--env", "container=docker",
            "--sysctl", "net.ipv4.ip_forward=1", "--stop-signal", "SIGRTMIN+3",
            IMAGE, "/lib/systemd/systemd")
        try:
            self._wait_until_booted()
        except BaseException:
            self.remove()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()

    def remove(self):
        self._engine.docker("rm", "--force", "--volumes", self.container)

    def _wait_until_booted(self):
        booted = ("running", "degraded")
        wait_until(lambda: self.run("systemctl", "is-system-running", check=False).stdout.strip() in booted,
                   seconds=90, what="the end of the boot")

    def reboot(self):
        self._engine.docker("restart", self.container)
        self._wait_until_booted()

    def run(self, *command, check=True, **options):
        result = self._engine.docker("exec", "--interactive", self.container, *command, check=False, **options)
        if check and result.returncode != 0:
            raise AssertionError(f"{' '.join(command)[:200]}: {result.returncode}\n{result.stdout}{result.stderr}\n{self.events()}")
        return result

    def put(self, source, target, mode="0644"):
        content = source.read_bytes() if isinstance(source, pathlib.Path) else source.encode()
        self.run("sh", "-c", f'mkdir -p "$(dirname {target})" && cat >{target} && chmod {mode} {target}', input=content, text=False)

    def install(self):
        """What the README says, by hand; and the unit that plays Docker."""
        self.put(BINARY, "/usr/local/bin/ec2-role", "0755")
        self.put(SCRIPTS / "ec2-role-hook", "/usr/local/sbin/ec2-role-hook", "0755")
        for unit in UNITS:
            self.put(SCRIPTS / unit, f"/etc/systemd/system/{unit}")
        self.install_docker()
        self.run("systemctl", "daemon-reload")
        self.run("systemctl", "enable", "--now", "ec2-role-hook")

    def install_docker(self):
        """It comes from a package, in /lib/systemd."""
        self.put(HERE / "docker.service", "/lib/systemd/system/docker.service")
        self.put(HERE / "stand_in_docker.py", "/usr/local/sbin/stand-in-docker", "0755")
        self.run("systemctl", "daemon-reload")

    def configure(self, name, role, **variables):
        lines = {"EC2_ROLE_ARN": arn(role), "EC2_ROLE_ENDPOINT_URL": ENDPOINT, **variables}
        self.put("".join(f"{key}={value}\n" for key, value in lines.items()), f"/etc/ec2-role/{name}.conf")

    def show(self, unit, *properties):
        """The values of a unit's properties."""
        lines = self.run("systemctl", "show", unit, *(f"--property={name}" for name in properties)).stdout.splitlines()
        values = dict(line.split("=", 1) for line in lines)
        return [values[name] for name in properties] if len(properties) > 1 else values[properties[0]]

    def wait_until_active(self, unit, seconds=15):
        try:
            wait_until(lambda: self.show(unit, "ActiveState") == "active", seconds, what=f"{unit}'s becoming active")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.run('systemctl', 'status', unit, check=False).stdout}\n{self.events()}")

    def journal(self):
        return self.run("journalctl", "--no-pager", "--output=cat", check=False).stdout

    def events(self):
        """The journal's last lines, without the access log."""
        return "\n".join([line for line in self.journal().splitlines() if '"GET /' not in line][-30:])

    def processes(self, unit="ec2-role@web"):
        """{name: pid} of the unit's processes."""
        keeper = self.show(unit, "MainPID")
        listed = self.run("ps", "-o", "comm=,pid=", "--pid", keeper, "--ppid", keeper, check=False).stdout
        return {name: int(pid) for name, pid in (line.split() for line in listed.splitlines())}

    def in_container(self, *command, check=True, **options):
        """On the other side of docker0."""
        return self.run("nsenter", f"--net={CONTAINER}", *command, check=check, **options)

    def ask(self, path=LIST, token=None, seconds=3):
        """(status, body) of a container's request; None when nobody answers."""
        header = ("--header", f"X-aws-ec2-metadata-token: {token}") if token else ()
        result = self.in_container("curl", "--silent", "--max-time", str(seconds), "--write-out", "\n%{http_code}", *header,
                                   METADATA + path, check=False)
        if result.returncode != 0:
            return None
        body, status = result.stdout.rsplit("\n", 1)
        return int(status), body

    def session_token(self):
        return self.in_container("curl", "--silent", "--fail", "--request", "PUT", "--header",
                                 "X-aws-ec2-metadata-token-ttl-seconds: 300", METADATA + "/latest/api/token").stdout

    def wait_until_served(self, role="exc_web", seconds=15):
        wait_until(lambda: self.ask() == (200, role), seconds, what=f"a container's getting {role}")
        return json.loads(self.ask(LIST + role)[1])
