"""The resources that a process and its children use: memory, processor time, system calls, context switches.

ec2-role's processes are not dumpable, so only root can read their memory maps and trace their system calls.
"""

import pathlib
import re
import signal
import subprocess
import time
from collections import Counter

PROC = pathlib.Path("/proc")
MAPPINGS = ("code and constants", "data", "heap and threads", "stack")


def family(pid):
    """The process and all its descendants, each parent before its children."""
    try:
        children = (PROC / f"{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []  # the process has just ended
    return [pid] + [member for child in children for member in family(int(child))]


def name(pid):
    try:
        return (PROC / f"{pid}/comm").read_text().strip()
    except OSError:
        return None  # the process has just ended


def proportional_memory(pids):
    """Proportional set size (PSS) in bytes: a page that N processes share counts 1/N for each."""
    total = 0
    for pid in pids:
        rollup = (PROC / f"{pid}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.M)[1]) * 1024
    return total


def memory_by_mapping(pid):
    """PSS in bytes by kind of mapping: code and constants of the binary, data of the binary, stack, heap with threads' stacks."""
    sizes = dict.fromkeys(MAPPINGS, 0)
    smaps = (PROC / f"{pid}/smaps").read_text()
    for permissions, name, pss in re.findall(r"^[0-9a-f]+-\S+ (\S+) \S+ \S+ \S+ *(.*)\n(?:.*\n)*?Pss: +(\d+) kB", smaps, re.M):
        is_file, is_writable = name.startswith("/"), "w" in permissions
        kind = ("data" if is_writable else "code and constants") if is_file else "stack" if name == "[stack]" else "heap and threads"
        sizes[kind] += int(pss) * 1024
    return sizes


def processor_seconds(pids):
    """User and system time so far, including that of ended threads: each process's CPU clock (clock_getcpuclockid(3))."""
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def context_switches(pid):
    """Context switches of the threads that the process has now."""
    status = "".join((task / "status").read_text() for task in (PROC / f"{pid}/task").iterdir())
    return sum(int(n) for n in re.findall(r"^(?:non)?voluntary_ctxt_switches:\s+(\d+)", status, re.M))


class SystemCalls:
    """Counts the system calls of a process and its threads by name, while its `with` block runs."""

    def __init__(self, pid, file):
        self._file = file
        self._command = ["strace", "-f", "-c", "-U", "calls,name", "-o", str(file), "-p", str(pid)]
        self.calls = Counter()

    def __enter__(self):
        self._strace = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        self._strace.stderr.readline()  # strace prints "Process … attached" first
        return self

    def __exit__(self, *_):
        self._strace.send_signal(signal.SIGINT)
        self._strace.communicate(timeout=30)
        for line in pathlib.Path(self._file).read_text().splitlines():
            if match := re.fullmatch(r"\s*(\d+)\s+(\w+)", line):
                self.calls[match[2]] += int(match[1])
        self.calls.pop("total", None)
