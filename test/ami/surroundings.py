"""Provides what EC2 gives a machine: a network cable, an address by DHCP, the real metadata service; but no internet access."""

import subprocess

from instance import AWS_ADDRESS, INSTANCE_ADDRESS, add_metadata_addresses, clean_environment
from network_namespace import NetworkNamespace
from real_metadata import RealMetadata

CABLE = "eth0"
MAC = "06:00:0a:4d:00:02"
LEASES = """
interface {cable}
start {address}
end {address}
option subnet 255.255.255.0
option router {router}
static_lease {mac} {address}
lease_file {directory}/leases
pidfile {directory}/udhcpd.pid
"""


class Surroundings:
    def __init__(self, directory):
        self.aws = NetworkNamespace("aws")
        self._dhcp = None
        try:
            self.aws.run("ip", "tuntap", "add", CABLE, "mode", "tap")
            self.aws.run("ip", "address", "add", f"{AWS_ADDRESS}/24", "dev", CABLE)
            add_metadata_addresses(self.aws)
            self.aws.run("ip", "link", "set", CABLE, "up")
            self._start_dhcp(directory)
            self.real_metadata = RealMetadata(self.aws)
            self.real_metadata.documents = self._documents()
        except BaseException:
            self.remove()
            raise

    def _start_dhcp(self, directory):
        configuration = directory / "udhcpd.conf"
        configuration.write_text(LEASES.format(cable=CABLE, mac=MAC, address=INSTANCE_ADDRESS, router=AWS_ADDRESS, directory=directory))
        with self.aws:
            self._dhcp = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", "busybox", "udhcpd", "-f", configuration],
                                          stderr=subprocess.DEVNULL, env=clean_environment())

    def _documents(self):
        """The metadata that cloud-init reads to configure the network, and a few further values."""
        interface = f"network/interfaces/macs/{MAC}"
        return {f"/latest/meta-data/{path}": text for path, text in {
            "ami-id": "ami-0123456789abcdef0",
            "instance-type": "t3.small",
            "local-hostname": "ip-10-77-0-2.ec2.internal",
            "local-ipv4": INSTANCE_ADDRESS,
            "mac": MAC,
            f"{interface}/device-number": "0",
            f"{interface}/local-ipv4s": INSTANCE_ADDRESS,
            f"{interface}/mac": MAC,
            f"{interface}/subnet-ipv4-cidr-block": "10.77.0.0/24",
        }.items()}

    def give(self, user_data):
        self.real_metadata.documents["/latest/user-data"] = user_data

    def remove(self):
        if hasattr(self, "real_metadata"):
            self.real_metadata.close()
        if self._dhcp:
            self._dhcp.terminate()
            self._dhcp.wait(10)
        self.aws.remove()
