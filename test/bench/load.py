"""Generates load with wrk, one request per connection."""

import pathlib
import subprocess
from dataclasses import dataclass

REPORT = pathlib.Path(__file__).with_name("report.lua")


@dataclass(frozen=True)
class Load:
    requests: int
    rate: float  # per second
    p50: float  # milliseconds, from the request's first byte to the response's last
    p99: float
    errors: int


def load(url, clients, seconds):
    # Without the header Connection: close, wrk would count each connection that the server closes as an error.
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout=10s", "-s", str(REPORT), "-H", "Connection: close", url]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    line = next(line for line in output.splitlines() if line.startswith("figures "))
    requests, duration, p50, p99, errors = map(int, line.split()[1:])
    return Load(requests, requests / duration * 1e6, p50 / 1000, p99 / 1000, errors)
