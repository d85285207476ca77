"""Functions that test/docker, test/podman and test/systemd share: requirements, clean-up after killed runs, a Docker Engine."""

import contextlib
import os
import shutil

import pytest

import engine as docker_engine
import network_namespace
from engine import Engine
from instance import Instance


def skip_where_they_cannot_run(items, directory, needed):
    """Skips these tests, with one reason, on a machine that lacks root or a program. In CI they run and fail instead, because a
    skip would hide that nothing was tested."""
    lacking = [program for program in needed if shutil.which(program) is None]
    reason = "needs root" if os.geteuid() != 0 else f"needs {', '.join(lacking)}" if lacking else None
    if reason and not os.environ.get("CI"):
        for item in items:
            if directory in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=f"test/{directory.name}: {reason}"))


def remove_what_killed_runs_left():
    network_namespace.remove_what_killed_runs_left()
    docker_engine.remove_what_killed_runs_left()


@contextlib.contextmanager
def engine_for_hosts(import_tree):
    """A Docker Engine that runs hosts as containers. `import_tree` imports the image of the hosts."""
    remove_what_killed_runs_left()
    with running_engine() as engine:
        import_tree(engine)
        yield engine


@contextlib.contextmanager
def running_engine():
    """A Docker Engine on an instance of its own, connected to AWS, without internet access."""
    with contextlib.ExitStack() as made:
        instance = Instance()
        made.callback(instance.remove)
        engine = Engine(instance)
        made.callback(engine.remove)
        engine.start()
        instance.environment = engine.environment
        yield engine
