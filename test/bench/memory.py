"""Prints the memory of supervisor and server after so many requests, in bytes: `memory.py 10000`."""

import sys
import tempfile
import time

import process
from servers import Ec2Role, Sts


def of(ec2_role):
    """Bytes, proportional. A fetcher shares its pages with the two and would make them look smaller: waits until it has gone."""
    deadline = time.monotonic() + 10
    while len(pids := process.family(ec2_role.pid)) != 2:
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: {len(pids)} processes, not supervisor and server: {[process.name(pid) for pid in pids]}")
        time.sleep(0.002)
    return process.proportional_memory(pids)


def main():
    with tempfile.TemporaryDirectory() as directory, Sts(directory) as sts, Ec2Role(directory, sts.url) as ec2_role:
        for _ in range(int(sys.argv[1])):
            ec2_role.answer()
        print(of(ec2_role))


if __name__ == "__main__":
    main()
