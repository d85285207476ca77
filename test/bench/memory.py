"""Prints the memory of ec2-role's processes after N requests, in bytes: `memory.py 10000`."""

import sys
import tempfile
import time

import process
from servers import Ec2Role, Sts

STAYING = {"ec2-role-server", "ec2-role-log"}


def staying(ec2_role):
    """Waits until no fetcher runs, and returns the permanent processes. A fetcher would reduce their PSS, because it shares pages
    with them."""
    deadline = time.monotonic() + 10
    while not set(map(process.name, (pids := process.family(ec2_role.pid))[1:])) <= STAYING:
        if time.monotonic() > deadline:
            raise SystemExit("bench: the fetcher does not end")
        time.sleep(0.002)
    return pids


def of(ec2_role):
    """Proportional memory (PSS) of the permanent processes, in bytes."""
    return process.proportional_memory(staying(ec2_role))


def main():
    with tempfile.TemporaryDirectory() as directory, Sts(directory) as sts, Ec2Role(directory, sts.url) as ec2_role:
        for _ in range(int(sys.argv[1])):
            ec2_role.answer()
        print(of(ec2_role))


if __name__ == "__main__":
    main()
