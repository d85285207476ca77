import os
import pathlib
import shutil

import pytest

from instance import Instance
from network_namespace import remove_what_killed_runs_left

HERE = pathlib.Path(__file__).parent
NEEDED = ("ip", "iptables", "iptables-legacy", "dockerd", "busybox", "mmdebstrap")


def pytest_collection_modifyitems(items):
    """Where these cannot run they are skipped with one reason; in CI a skip would hide that nothing was tested."""
    lacking = [program for program in NEEDED if shutil.which(program) is None]
    reason = "needs root" if os.geteuid() != 0 else f"needs {', '.join(lacking)}" if lacking else None
    if reason and not os.environ.get("CI"):
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=f"test/docker: {reason}"))


@pytest.fixture(scope="session", autouse=True)
def leftovers():
    remove_what_killed_runs_left()


@pytest.fixture
def instance():
    """An instance without Docker: bridges and namespaces by hand, quick to make."""
    made = Instance()
    yield made
    made.remove()
