"""Measures `ec2-role-hook` on a host with a given number of roles, each with a bridge and a server of its own.

Prints as JSON, for each number of roles, the median times of COMMANDS. Must run in network and mount namespaces of its own.
"""

import contextlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from servers import REPOSITORY, Ec2Role, Sts

HOOK = REPOSITORY / "scripts/ec2-role-hook"
PORT = 4567
COMMANDS = ("add", "add again", "status", "remove --all")


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def timed(*words):
    """Milliseconds that a command takes: (elapsed time, processor time)."""

    def now():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.perf_counter(), used.ru_utime + used.ru_stime

    before = now()
    result = subprocess.run([HOOK, *words], capture_output=True, text=True)
    after = now()
    if result.returncode != 0:
        raise SystemExit(f"bench: ec2-role-hook {' '.join(words)}: {result.returncode}\n{result.stdout}{result.stderr}")
    return [(end - begin) * 1000 for begin, end in zip(before, after)]


def add(number):
    return timed("add", "--bridge", f"bench{number}", "--to", f"10.0.{number}.1:{PORT}")


def one_round(roles):
    for number in range(1, roles):
        add(number)
    return [add(roles), add(roles), timed("status"), timed("remove", "--all")]


def measure(directory, roles, rounds):
    with Sts(directory) as sts, contextlib.ExitStack() as stack:
        for number in range(1, roles + 1):
            ip("link", "add", f"bench{number}", "type", "bridge")
            ip("address", "add", f"10.0.{number}.1/24", "dev", f"bench{number}")
            ip("link", "set", f"bench{number}", "up")
            stack.enter_context(Ec2Role(directory, sts.url, name=f"hook-{number}", address=f"10.0.{number}.1", port=PORT))
        taken = [one_round(roles) for _ in range(rounds)]
        for number in range(1, roles + 1):
            ip("link", "delete", f"bench{number}")
    return [[statistics.median(times) for times in zip(*command)] for command in zip(*taken)]


def main():
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)  # the hook's lock file is in /run
    ip("link", "set", "lo", "up")
    rounds, *numbers = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory() as directory:
        json.dump({roles: measure(directory, roles, rounds) for roles in numbers}, sys.stdout)


if __name__ == "__main__":
    main()
