"""Times `ec2-role-network create` and `systemctl start` on a host with N roles, a real Docker Engine and systemd.

Prints as JSON, for each number of roles, the median milliseconds of COMMANDS. Each command returns when the role is served.
"""

import json
import pathlib
import statistics
import sys
import time

TESTS = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "docker"), str(TESTS / "systemd")]

import session
from host import Host, import_tree
from images import build_ec2_role
from instance import REPOSITORY
from sts import ENDPOINT, Aws, arn

COMMANDS = ("ec2-role-network create", "systemctl start")


def milliseconds(command):
    begun = time.perf_counter()
    command()
    return (time.perf_counter() - begun) * 1000


def median_of(rounds, command, undo):
    """Runs `command` in each round, and `undo` between the rounds; returns the median milliseconds of `command`."""
    times = [milliseconds(command)]
    for _ in range(rounds - 1):
        undo()
        times.append(milliseconds(command))
    return statistics.median(times)


class Networks:
    def __init__(self, instance):
        self._instance = instance

    def _run(self, *words):
        return self._instance.run(REPOSITORY / "scripts/ec2-role-network", *words)

    def start(self, number):
        self._run("create", "--name", f"bench{number}", arn("exc_web"), "--", "--endpoint-url", ENDPOINT)

    def stop(self, number):
        self._run("remove", f"bench{number}")


class Units:
    def __init__(self, host):
        self._host = host

    def start(self, number):
        # No hook is added, because commands.py measures the hook.
        self._host.configure(f"bench{number}", "exc_web", EC2_ROLE_BRIDGE="")
        self._host.put(f"[Socket]\nListenStream=\nListenStream=127.0.1.{number}:4567\n",
                       f"/etc/systemd/system/ec2-role@bench{number}.socket.d/address.conf")
        self._host.run("systemctl", "daemon-reload")
        self.again(number)

    def again(self, number):
        self._host.run("systemctl", "start", f"ec2-role@bench{number}.service")

    def stop(self, number):
        self._host.run("systemctl", "stop", f"ec2-role@bench{number}.service")


def networks_times(engine, rounds, numbers):
    networks, times = Networks(engine.instance), []
    for number in range(1, max(numbers) + 1):
        if number in numbers:
            times.append(median_of(rounds, lambda: networks.start(number), lambda: networks.stop(number)))
        else:
            networks.start(number)
    for number in range(1, max(numbers) + 1):
        networks.stop(number)
    return times


def units_times(engine, rounds, numbers):
    times = []
    with Host(engine) as host:
        host.install_docker()
        host.install()
        host.run("systemctl", "enable", "--now", "docker")
        units = Units(host)
        for number in range(1, max(numbers) + 1):
            units.start(number)
            if number in numbers:
                units.stop(number)
                times.append(median_of(rounds, lambda: units.again(number), lambda: units.stop(number)))
    return times


def main():
    rounds, *numbers = map(int, sys.argv[1:])
    with session.running_engine() as engine:
        # Make room for a network of each role: scripts/bench starts 40 roles, and Docker's default pools have only 31 subnets.
        engine.settings = {"default-address-pools": [{"base": "172.16.0.0/12", "size": 24}]}
        engine.restart()
        import_tree(engine)
        build_ec2_role(engine)
        with Aws(engine.instance):
            networks = networks_times(engine, rounds, numbers)
            # Turn off the guard, which `ec2-role-network create` has turned on. The guard hides the metadata service from
            # containers, also from the one in which `units_times` runs ec2-role.
            engine.instance.guard("off")
            units = units_times(engine, rounds, numbers)
    json.dump(dict(zip(numbers, zip(networks, units))), sys.stdout)


if __name__ == "__main__":
    main()
