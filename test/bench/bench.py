"""Measures ec2-role and comparable servers, all on loopback and in one run. Started by scripts/bench."""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import commands
import installed
import memory
import process
import report
import servers
import tls
from fetch import fetches
from load import load
from servers import Ec2Role, Sts
from start import first_credential

median = statistics.median
# Time limit of the whole benchmark.
LIMIT_SECONDS = 900
# Each round measures all servers within seconds, so the ratio of two servers is fair. A slow moment of a shared machine spoils
# only one of many short rounds, and the median of the ratios ignores this round.
ROUNDS = 9
ROUND_SECONDS = 1
SECONDS = 3  # duration of each load that is measured outside the rounds
COMMAND_ROUNDS = 3
CLIENTS = (8, 64)
STARTS = 50
FETCHES = 70  # per round; moto_server gets a tenth of them, because it is ten times as slow
REQUESTS = 100_000
REFRESHES = 100
ROLES = (1, 10, 40)
CROWDS = (1, 8, 64, 256, 1000)


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Bench:
    def __init__(self, directory, is_quick):
        self.directory = directory
        self.rounds, self.command_rounds = (1, 1) if is_quick else (ROUNDS, COMMAND_ROUNDS)
        self.is_quick = is_quick
        self.rows = []
        self.tables = []
        self.sts = Sts(directory)
        with self.ec2_role() as ec2_role:
            self.answer = ec2_role.answer()
            self.document = self.answer.partition(b"\r\n\r\n")[2].decode()

    def ec2_role(self, **options):
        return Ec2Role(self.directory, self.sts.url, **options)

    def row(self, what, own, limit="", **ratio):
        self.rows.append([what, own, limit])
        say(f"{what}: {own}" + (f" (nginx {limit})" if limit else ""))

    def sizes(self):
        say("sizes")
        binary = pathlib.Path(servers.BINARY).stat().st_size
        self.row("binary, and so the image", f"{binary:,} bytes")

    def start(self):
        with Sts(self.directory) as sts:
            times = [first_credential(self.directory, sts) for _ in range(5 if self.is_quick else STARTS)]
        self.row("exec to first credential served, STS's own time subtracted", report.milliseconds(median(times)))

    def memory(self):
        # Exclude the log writer, which runs only if stderr is a regular file. systemd and Docker give a socket or a pipe instead.
        no_file = {"stderr": subprocess.DEVNULL}
        with self.ec2_role(**no_file) as ec2_role:
            self.row("memory of supervisor and server, idle after start", report.megabytes(memory.of(ec2_role)))
            sizes = {process.name(pid): process.memory_by_mapping(pid) for pid in memory.staying(ec2_role)}
            rows = [[name, *(f"{size >> 10} KiB" for size in one.values())] for name, one in sizes.items()]
            self.tables.append((["memory of each process", *process.MAPPINGS], rows))
            requests = left = 5_000 if self.is_quick else REQUESTS
            while left > 0:
                left -= load(ec2_role.document, 8, 2).requests
            self.row(f"… after {requests:,} requests", report.megabytes(memory.of(ec2_role)))
        refreshes = 3 if self.is_quick else REFRESHES
        authority, certificate, key = tls.make(self.directory)
        # Use a lifetime of one second to save time: it causes a refresh each second, and ec2-role refreshes no more often.
        with Sts(self.directory, "--lifetime", "1", "--certificate", certificate, "--key", key) as sts:
            with Ec2Role(self.directory, sts.url, environment={"AWS_CA_BUNDLE": authority}, **no_file) as ec2_role:
                for _ in range(refreshes):
                    sts.line()
                self.row(f"… after {refreshes} refreshes over TLS", report.megabytes(memory.of(ec2_role)))

    def roles(self):
        """Memory and start time of many roles on one host."""
        for number in ROLES:
            with contextlib.ExitStack() as stack:
                begun = time.perf_counter()
                started = [self.ec2_role(name=f"role-{count}") for count in range(number)]
                for one in started:
                    stack.enter_context(one)
                took = time.perf_counter() - begun
                total = sum(memory.of(one) for one in started)
            self.row(f"{number} roles started at once, until all serve", report.milliseconds(took * 1000))
            self.row("… memory of each", report.megabytes(total / number))

    def hook(self):
        """Times the hook's commands in namespaces of their own, so that no rule of this machine changes."""
        script = [sys.executable, "-B", servers.HERE / "commands.py", str(self.command_rounds), *map(str, ROLES)]
        output = subprocess.run(["unshare", "--net", "--mount", *script], stdout=subprocess.PIPE, check=True).stdout
        rows = [
            [roles, *(f"{report.milliseconds(clock)}, {report.milliseconds(processor)}" for clock, processor in times)]
            for roles, times in json.loads(output).items()
        ]
        self.tables.append((["ec2-role-hook, with so many roles: time, of the processor", *commands.COMMANDS], rows))

    def installed(self):
        """Times the start of a role network and of a unit, with a real Docker Engine and systemd in namespaces of their own."""
        script = [sys.executable, "-B", servers.HERE / "installed.py", str(self.command_rounds), *map(str, ROLES)]
        output = subprocess.run(script, stdout=subprocess.PIPE, check=True).stdout
        rows = [[roles, *map(report.milliseconds, times)] for roles, times in json.loads(output).items()]
        self.tables.append((["with so many roles, until the last is served", *installed.COMMANDS], rows))

    def lifetimes(self):
        """How many STS calls a day each lifetime of a credential costs."""
        example = pathlib.Path(servers.BINARY).with_name("examples") / "calls_per_day"
        if not example.exists():
            return
        output = subprocess.run([example], stdout=subprocess.PIPE, text=True, check=True).stdout
        header, *rows = [line.split("\t") for line in output.splitlines()]
        self.tables.append((["calls of STS in a day, credentials of", *header[1:]], rows))

    def crowds(self):
        """Latency with 1 to 1,000 concurrent clients."""
        with self.ec2_role() as ec2_role, servers.nginx(self.directory, self.document) as nginx:
            for clients in CROWDS:
                own, limit = (load(server.document, clients, SECONDS) for server in (ec2_role, nginx))
                figures = [f"{report.milliseconds(one.p99)}, {one.errors} errors" for one in (own, limit)]
                self.row(f"p99 with {clients:,} clients", *figures)

    def loads(self):
        """Load with one request per connection. The servers take turns, so other load of the machine affects them alike."""
        self.loaded = {}
        with (
            self.ec2_role() as ec2_role,
            servers.limit(self.directory, self.answer) as limit,
            servers.nginx(self.directory, self.document) as nginx,
            servers.sinatra(self.directory, self.document) as sinatra,
            servers.moto(self.directory) as moto,
            servers.ectou(self.directory, self.sts.url) as ectou,
            servers.metadata_proxy(self.directory, self.sts.url) as metadata_proxy,
        ):
            peers = {
                "limit": limit,
                "nginx": nginx,
                "ec2-role": ec2_role,
                "Sinatra on WEBrick": sinatra,
                "moto_server": moto,
                "ectou-metadata": ectou,
                "terrycain-metadata-proxy": metadata_proxy,
            }
            for number in range(self.rounds):
                say(f"round {number + 1} of {self.rounds}")
                for clients in CLIENTS:
                    for name, server in peers.items():
                        pids = process.family(server.pid)
                        before = process.processor_seconds(pids)
                        one = load(server.document, clients, ROUND_SECONDS)
                        used = process.processor_seconds(pids) - before
                        self.loaded.setdefault((name, clients), []).append(one)
                        self.loaded.setdefault((name, clients, "processor"), []).append(used / one.requests * 1e6)
                for name in ("nginx", "ec2-role", "moto_server"):
                    number_of_fetches = FETCHES if name != "moto_server" else FETCHES // 10
                    times = fetches(peers[name].base, number_of_fetches)
                    self.loaded.setdefault((name, "fetch"), []).append(median(times))
            self.peers = list(peers)
            self.peers_memory = {name: process.proportional_memory(process.family(one.pid)) for name, one in peers.items()}

    def compare(self, clients):
        """A row for each server. In each round, its processor time is divided by that of the server `limit`, its rate by that of
        nginx."""
        rows = []
        for name in self.peers:
            own, nginx = self.loaded[name, clients], self.loaded["nginx", clients]
            used, limit = (self.loaded[one, clients, "processor"] for one in (name, "limit"))
            rows.append(
                [
                    name,
                    f"{median(used):.1f} µs",
                    f"{median(one / other for one, other in zip(used, limit)):.2f}",
                    report.rate(median(one.rate for one in own)),
                    f"{median(one.rate / other.rate for one, other in zip(own, nginx)):.3f}",
                    *(report.milliseconds(median(getattr(one, part) for one in own)) for part in ("p50", "p99")),
                    str(sum(one.errors for one in own)),
                ]
            )
        return [f"{clients} clients", "processor time per request", "÷ limit", "rate", "÷ nginx", "p50", "p99", "errors"], rows

    def others(self):
        rows = []
        for name in self.peers:
            fetch = self.loaded.get((name, "fetch"))
            rows.append([name, report.milliseconds(median(fetch)) if fetch else "", report.megabytes(self.peers_memory[name])])
        return ["server", "botocore's fetch", "memory after"], rows

    def hanging(self):
        """Time of a fetch while STS hangs: STS answers the first call, but not the second, which ec2-role sends within 8 s."""
        with Sts(self.directory, "--lifetime", "16", "--then-hang") as sts, Ec2Role(self.directory, sts.url) as ec2_role:
            sts.line()
            if sts.line() != "hangs":
                raise SystemExit("bench: STS was to hang and answered")
            times = fetches(ec2_role.base, FETCHES)
        self.row("botocore's fetch while STS hangs", report.milliseconds(median(times)))

    def per_request(self):
        """Context switches and system calls of the server per request, with 8 clients."""
        with self.ec2_role() as ec2_role, servers.nginx(self.directory, self.document) as nginx:
            figures = []
            for one in (ec2_role, nginx):
                worker = process.family(one.pid)[-1]
                before = process.context_switches(worker)
                done = load(one.document, 8, SECONDS).requests
                switches = (process.context_switches(worker) - before) / done
                with process.SystemCalls(worker, f"{self.directory}/strace") as traced:
                    traced_requests = load(one.document, 8, SECONDS).requests
                calls = {name: count / traced_requests for name, count in traced.calls.most_common()}
                figures.append((switches, calls))
        self.row("context switches per request", *(f"{switches:.2f}" for switches, _ in figures))
        self.row("system calls per request", *(f"{sum(calls.values()):.1f}" for _, calls in figures))
        for name in dict.fromkeys(name for _, calls in figures for name in calls):
            counts = [calls.get(name, 0) for _, calls in figures]
            if max(counts) >= 0.05:
                self.row(f"… {name}", *(f"{count:.2f}" for count in counts))

    def noise(self):
        lines = []
        for clients in CLIENTS:
            rates = [one.rate for one in self.loaded["nginx", clients]]
            lines.append(f"nginx's rounds at {clients} clients differ by {(max(rates) - min(rates)) / median(rates):.0%}")
        return "; ".join(lines)


def commit():
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, cwd=servers.REPOSITORY, capture_output=True, text=True).stdout.strip() or "unknown"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()

    def too_long(*_):
        raise SystemExit(f"bench: not done after {LIMIT_SECONDS} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.alarm(LIMIT_SECONDS)
    load_before = os.getloadavg()
    with tempfile.TemporaryDirectory() as directory:
        # nginx's worker runs as the user nobody and must be able to enter the directory.
        os.chmod(directory, 0o755)
        bench = Bench(directory, arguments.quick)
        with bench.sts:
            bench.sizes()
            bench.start()
            bench.memory()
            bench.roles()
            bench.loads()
            bench.hanging()
            bench.per_request()
            bench.crowds()
            bench.hook()
            bench.installed()
            bench.lifetimes()
    noise = f"{bench.noise()}; load average {load_before[0]:.1f} before, {os.getloadavg()[0]:.1f} after, {os.cpu_count()} cores"
    tables = [
        *(bench.compare(clients) for clients in CLIENTS),
        bench.others(),
        (["figure", "ec2-role", "nginx"], bench.rows),
        *bench.tables,
    ]
    title = f"commit {commit()}, {bench.rounds} rounds of {ROUND_SECONDS} s"
    for form in (report.text, report.markdown):
        print(f"\n{title}\n")
        for header, rows in tables:
            print(form(header, rows) + "\n")
        print(f"How noisy the machine was: {noise}.")


if __name__ == "__main__":
    main()
