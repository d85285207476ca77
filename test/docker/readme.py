"""Extracts the code blocks of README.md and of the pages in scripts/, so that tests can run them unchanged."""

import re
import subprocess

from instance import REPOSITORY

OPERATING = "scripts/README.md"


def block(heading, language, number=0, page="README.md"):
    text = (REPOSITORY / page).read_text()
    section = re.search(rf"^#{{2,}} {re.escape(heading)}\n(.*?)(?=^#{{2,}} |\Z)", text, re.M | re.S)[1]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)[number]


def compose(docker, directory, text, environment, **more):
    """Runs a compose file of the page until its app ends. The service `role` gets the variables of `environment` too."""
    (directory / "compose.yaml").write_text(text)
    (directory / "test.yaml").write_text(
        # A shorter interval: with the image's own, the test would wait 5 s for the first health check.
        "services:\n  role:\n    healthcheck:\n      interval: 500ms\n    environment:\n" + "".join(f"      {name}: '{value}'\n" for name, value in environment.items()))
    program = ["docker", "compose"] if docker.docker("compose", "version", check=False).returncode == 0 else ["docker-compose"]
    return subprocess.run([*program, "--project-name", "readme", "-f", "compose.yaml", "-f", "test.yaml", "up", "--no-color",
                           "--exit-code-from", "app"], cwd=directory, capture_output=True, text=True, timeout=120,
                          env={**docker.environment, **more})
