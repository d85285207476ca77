"""A minimal host: Debian with systemd as PID 1 in a container. A unit stands in for Docker, with docker0 and a container."""

import concurrent.futures
import contextlib
import itertools
import json
import pathlib

from exec_session import ExecSession
from images import debian_tree
from instance import REPOSITORY, wait_until
from instance_server import BINARY
from readme import OPERATING, block
from sts import ENDPOINT
from systemd_host import SystemdHost

HERE = pathlib.Path(__file__).parent
SCRIPTS = REPOSITORY / "scripts"
IMAGE = "plain-host"
PACKAGES = "systemd,systemd-sysv,dbus,iproute2,iptables,curl,wget,procps,python3,cloud-init,rpm,cpio"
NETWORK, SUBNET = "hosts", "10.99.0.0/24"  # not 10.88.0.0/16, which is Podman's default
RELEASE = ("ec2-role-guard", "ec2-role-hook", "ec2-role-network", "ec2-role@.service", "ec2-role@.socket", "ec2-role-guard.service",
           "ec2-role-hook.service")
INSTALL, REMOVE = (block("systemd", "sh", number, OPERATING) for number in (0, 1))
# Options of a host that runs an engine. With a private cgroup namespace, Podman and systemd see the same cgroup paths. The device
# rule allows all devices 5:*, because systemd asks for all of them.
ENGINE_OPTIONS = ("--cgroupns=private", "--device-cgroup-rule", "c 5:* rwm", "--env", "PODMAN_IGNORE_CGROUPSV1_WARNING=1")
# Makes the directories writable that Docker mounts read-only, because the engine in the host must write to them. The settings in
# /proc/sys/net belong to the container's own network namespace, so the machine's do not change.
ENGINE_INIT = ("sh", "-c", """
    mount --bind /proc/sys/net /proc/sys/net
    for directory in /proc/sys/net /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,rw,bind $directory; done 2>/dev/null
    exec /lib/systemd/systemd""")
_number = itertools.count()


def second_bridge(name="br-two", network="172.18.0", prefix_length=16):
    """Returns a script that makes a bridge with a container: the network namespace `two` plays the container."""
    return f"""
ip link add {name} type bridge
ip address add {network}.1/{prefix_length} dev {name}
ip link set {name} up
ip netns add two
ip link add veth2 type veth peer name eth0 netns two
ip link set veth2 master {name} up
ip -n two address add {network}.9/{prefix_length} dev eth0
ip -n two link set eth0 up
ip -n two route add default via {network}.1
"""


def import_tree(engine):
    engine.docker("import", debian_tree(IMAGE, PACKAGES), IMAGE)
    engine.docker("network", "create", "--subnet", SUBNET, NETWORK)


class Host(SystemdHost):
    container_namespace = "/run/netns/container"
    options = ("--cgroupns=host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup")
    init = ("/lib/systemd/systemd",)

    def __init__(self, engine, image=IMAGE):
        self._engine = engine
        self._idle = []  # sessions in which no command runs
        self.real_metadata = engine.instance.real_metadata
        self.real_metadata_namespace = engine.instance.aws
        self.container = engine.run(
            "--name", f"host-{next(_number)}", "--network", NETWORK, "--tty",
            "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--cap-add", "SYS_PTRACE",
            "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
            "--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "--env", "container=docker",
            "--sysctl", "net.ipv4.ip_forward=1", "--stop-signal", "SIGRTMIN+3",
            *self.options, image, *self.init)
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
        self._close_sessions()
        self._engine.docker("rm", "--force", "--volumes", self.container)

    def _wait_until_booted(self):
        booted = ("running", "degraded")
        # Repeat the command: early in a boot it fails in spite of `--wait`, because systemd does not answer yet.
        wait_until(lambda: self.run("systemctl", "is-system-running", "--wait", check=False).stdout.strip() in booted,
                   seconds=90, what="the end of the boot")

    def reboot(self, wait=True):
        self._close_sessions()
        self._engine.docker("restart", self.container)
        if wait:
            self._wait_until_booted()

    def give_user_data(self, document):
        """Gives the host user-data like a new instance's: cloud-init finds it in its seed directory at the next boot."""
        self.put("network: {config: disabled}\n", "/etc/cloud/cloud.cfg.d/90_network.cfg")
        self.put("datasource_list: [NoCloud]\n", "/etc/cloud/cloud.cfg.d/91_datasource.cfg")
        self.put("instance-id: i-0123456789abcdef0\n", "/var/lib/cloud/seed/nocloud/meta-data")
        self.put(document, "/var/lib/cloud/seed/nocloud/user-data")

    def console(self):
        return self._engine.log(self.container)

    def execute(self, *command, **options):
        # Commands that run at the same time, in several threads, have a session each.
        session = self._idle.pop() if self._idle else ExecSession(self._engine, self.container)
        result = session.run(command, **options)
        if session.ended():
            session.close()
        else:
            self._idle.append(session)
        return result

    def ask_on_second_bridge(self, url):
        """Requests the URL from the container of `second_bridge`; returns curl's result."""
        return self.run("nsenter", "--net=/run/netns/two", "curl", "--silent", "--fail", "--max-time", "2", url, check=False)

    def _close_sessions(self):
        while self._idle:
            self._idle.pop().close()

    def unpack_release(self):
        """Copies the files of the release's tarball to the host. Only the sample is changed: it has the test's STS endpoint."""
        self.put(BINARY, "/tmp/release/ec2-role")
        for name in RELEASE:
            self.put(SCRIPTS / name, f"/tmp/release/{name}")
        sample = (SCRIPTS / "ec2-role.conf.sample").read_text()
        self.put(f"{sample}\nEC2_ROLE_ENDPOINT_URL={ENDPOINT}\n", "/tmp/release/ec2-role.conf.sample")

    def install(self):
        self.unpack_release()
        self.run("sh", "-euc", f"cd /tmp/release\n{INSTALL}")

    def uninstall(self):
        self.run("sh", "-euc", REMOVE)

    def install_docker(self):
        """Installs the stand-in for Docker as a package would, with its unit in /lib/systemd."""
        self.put(HERE / "docker.service", "/lib/systemd/system/docker.service")
        self.put(HERE / "stand_in_docker.py", "/usr/local/sbin/stand-in-docker", "0755")
        self.run("systemctl", "daemon-reload")

    @contextlib.contextmanager
    def under_load(self):
        """Sends requests with one session token: at least 50 before the block begins, and more until it ends. All requests must
        succeed, and no unit may hang."""
        token, running, hangs = self.session_token(), "/run/load", self.count_hangs()
        self.put(HERE / "request_load.py", "/request_load.py")
        with concurrent.futures.ThreadPoolExecutor(1) as clients:
            load = clients.submit(self.in_container, "python3", "/request_load.py", token, "exc_web", running)
            try:
                wait_until(lambda: load.done() or self.run("test", "-e", running, check=False).returncode == 0, what="the first answers")
                yield
            finally:
                self.run("rm", "-f", running)
        outcome = json.loads(load.result().stdout)
        assert set(outcome) == {"200"} and outcome["200"] > 50, outcome
        assert self.count_hangs() == hangs
