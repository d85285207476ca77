"""An EC2 instance (namespace `ec2`), connected to AWS (namespace `aws`) with the real metadata service; no internet access."""

import http.client
import os
import pathlib
import socket
import time

from network_namespace import NetworkNamespace, join
from real_metadata import RealMetadata

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
HOOK = REPOSITORY / "scripts/ec2-role-hook"
GUARD = REPOSITORY / "scripts/ec2-role-guard"
METADATA = "169.254.169.254"
METADATA_IPV6 = "fd00:ec2::254"
INSTANCE_ADDRESS = "10.77.0.2"
AWS_ADDRESS = "10.77.0.1"


def clean_environment(**more):
    """The environment of the tests without the variables that configure an SDK, ec2-role, Docker or a proxy. In it,
    AWS_EC2_METADATA_DISABLED keeps SDKs and ec2-role from the metadata service. With GOGC, Docker's processes collect garbage less
    often, which saves the many short ones a third of their processor time. `more` replaces or adds variables."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("AWS_", "EC2_ROLE_", "DOCKER_")) and not name.lower().endswith("_proxy")}
    return {**kept, "AWS_EC2_METADATA_DISABLED": "true", "GOGC": "400", **more}


def add_metadata_addresses(aws):
    aws.ip(f"address add {METADATA}/32 dev eth0", f"address add {METADATA_IPV6}/128 dev eth0 nodad")


class Instance:
    def __init__(self):
        self._made = []
        self.environment = clean_environment()
        self.within = ()  # prefix of each command, for example to run it in a mount namespace
        try:
            self.aws = self._keep(NetworkNamespace("aws"))
            self.ec2 = self._keep(NetworkNamespace("ec2"))
            join(self.ec2, f"{INSTANCE_ADDRESS}/24", self.aws, f"{AWS_ADDRESS}/24")
            add_metadata_addresses(self.aws)
            self.aws.ip("address add fd77::1/64 dev eth0 nodad")
            self.ec2.ip(f"route add default via {AWS_ADDRESS}", f"route add {METADATA} dev eth0",
                        "address add fd77::2/64 dev eth0 nodad", "route add default via fd77::1")
            self.real_metadata = RealMetadata(self.aws)
        except BaseException:
            self.remove()
            raise

    def _keep(self, namespace):
        self._made.append(namespace)
        return namespace

    def hook(self, *arguments, check=True):
        return self.run(HOOK, *arguments, check=check)

    def guard(self, *arguments, check=True):
        return self.run(GUARD, *arguments, check=check)

    def run(self, *command, check=True, **options):
        result = self.ec2.run(*map(str, (*self.within, *command)), check=False, env=self.environment, timeout=120, **options)
        if check and result.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))}: {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def bridge(self, name, address):
        """Adds a bridge whose traffic the instance forwards. There is no masquerading, so `container` adds a route for AWS's
        replies."""
        self.ec2.ip(f"link add {name} type bridge", f"address add {address} dev {name}", f"link set {name} up")
        with self.ec2:
            for forwarding in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
                pathlib.Path("/proc/sys/net", forwarding).write_text("1")

    def container(self, bridge, address, gateway):
        """Adds a namespace on the bridge, with the network of a container."""
        box = self._keep(NetworkNamespace("box"))
        box.port = f"veth{len(self._made)}"
        self.ec2.ip(f"link add {box.port} type veth peer name eth0 netns {box.name}", f"link set {box.port} master {bridge} up")
        box.ip(f"address add {address} dev eth0", "link set eth0 up", f"route add default via {gateway}")
        wait_until(lambda: "state forwarding" in self.ec2.run("ip", "-details", "link", "show", box.port).stdout,
                   what="the bridge's forwarding to its new port")
        self.aws.ip(f"route replace {address.rsplit('.', 1)[0]}.0/24 via {INSTANCE_ADDRESS}")
        return box

    def remove(self):
        if hasattr(self, "real_metadata"):
            self.real_metadata.close()
        for namespace in reversed(self._made):
            namespace.remove()


def first_in_path(directory, name, script):
    """Writes a shell script as a program into the directory. Returns a PATH in which it comes before the machine's program of this
    name."""
    program = directory / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


def with_busybox_flock(directory):
    """A PATH in which flock is like that of busybox (its util-linux/flock.c): it has neither -w nor -V."""
    return f"PATH={first_in_path(directory, 'flock', 'while getopts sxun _; do :; done; [ $OPTIND = 1 ]')}"


def get(namespace, path, address=METADATA, port=80, timeout=3, source=None):
    """Sends a GET from inside the namespace and returns (status, body). Raises OSError if there is no response."""
    with namespace:
        connection = http.client.HTTPConnection(address, port, timeout=timeout, source_address=source)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


def open_connection(namespace, address=METADATA, port=80, timeout=3):
    with namespace:
        return socket.create_connection((address, port), timeout=timeout)


def wait_until(condition, seconds=60, what="it"):
    """Waits until the condition holds, and returns its value. The interval grows, because most conditions start processes."""
    begun = time.monotonic()
    while not (value := condition()):
        waited = time.monotonic() - begun
        if waited > seconds:
            raise AssertionError(f"{what} did not happen within {seconds} s")
        time.sleep(min(0.02 + waited / 10, 0.25))
    return value


def firewall(instance, program="iptables"):
    """The output of iptables-save and ip6tables-save, without its comment lines, and without the counters of the chains."""
    text = ""
    for name in (program, program.replace("iptables", "ip6tables")):
        saved = instance.ec2.run(f"{name}-save").stdout
        text += "\n".join(line.split(" [")[0] for line in saved.splitlines() if not line.startswith("#")) + "\n"
    return text


def rules(instance, program="iptables"):
    return [line for line in firewall(instance, program).splitlines() if line.startswith("-A")]


def routing(instance):
    return instance.ec2.run("ip", "rule").stdout + instance.ec2.run("ip", "-6", "rule").stdout
