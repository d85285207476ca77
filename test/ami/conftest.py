import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import time

import pytest

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "docker"), str(HERE.parent / "systemd")]

import network_namespace
from disk import Disk
from machine import Machine
from release import Release, user_data
from sts import Aws
from surroundings import Surroundings

PREFIX = "ec2-role-ami"
_stages = []  # (what ran, seconds), for the summary


def pytest_configure():
    """SIGTERM ends the run as Ctrl-C does, so that the fixtures clean up."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _remove_what_killed_runs_left():
    network_namespace.remove_what_killed_runs_left()
    for directory in pathlib.Path(tempfile.gettempdir()).glob(f"{PREFIX}-*"):
        match = re.fullmatch(PREFIX + r"-(\d+)-\w+", directory.name)
        if match and not os.path.exists(f"/proc/{match[1]}"):
            shutil.rmtree(directory)


@pytest.fixture(scope="session")
def directory():
    _remove_what_killed_runs_left()
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}-{os.getpid()}-") as directory:
        yield pathlib.Path(directory)


@pytest.fixture(scope="session")
def disk(directory):
    return Disk(directory)


@pytest.fixture(scope="session")
def surroundings(directory):
    surroundings = Surroundings(directory)
    yield surroundings
    surroundings.remove()


@pytest.fixture(scope="session")
def aws(surroundings):
    with Aws(surroundings) as aws:
        yield aws


@pytest.fixture(scope="session")
def release(surroundings):
    """The server from which the machine downloads the release. Downloads wait until a test sets `allowed`."""
    with Release(surroundings.aws) as release:
        release.allowed.clear()
        yield release
        release.allowed.set()


@pytest.fixture(scope="session")
def document(release):
    """The user-data of the machine."""
    return user_data(release.url, release.sum)


@pytest.fixture(scope="session")
def machine(surroundings, aws, disk, directory, document):
    """One machine for all tests: each test continues where the one before ended."""
    surroundings.give(document)
    machine = Machine(surroundings, disk, directory)
    try:
        machine.wait_until_it_can_be_asked()
        yield machine
    finally:
        machine.remove()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    before = time.monotonic()
    try:
        return (yield)
    finally:
        if fixturedef.scope == "session":
            _stages.append((f"({fixturedef.argname})", time.monotonic() - before))


def pytest_runtest_logreport(report):
    if report.when == "call":
        _stages.append((report.nodeid.partition("::test_")[2].replace("_", " "), report.duration))


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("seconds")
    for what, seconds in _stages:
        terminalreporter.write_line(f"{seconds:7.1f}  {what}")
