"""Extracts the code blocks of README.md and of the pages in scripts/, so that tests can run them unchanged."""

import re
import subprocess

from instance import REPOSITORY
from sts import ENDPOINT

OPERATING = "scripts/README.md"


def block(heading, language, number=0, page="README.md"):
    text = (REPOSITORY / page).read_text()
    section = re.search(rf"^#{{2,}} {re.escape(heading)}\n(.*?)(?=^#{{2,}} |\Z)", text, re.M | re.S)[1]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)[number]


def command(begin, page="README.md"):
    """The first command on the page that is between backquotes and begins with `begin`, one or more words."""
    return re.search(rf"`({re.escape(begin)} [^`]*)`", (REPOSITORY / page).read_text())[1]


def with_test_sts(script):
    """Adds the endpoint of the test's STS to an example, which is otherwise run as it is."""
    script = re.sub(r"(ec2-role-network create \S+)", rf"\1 -- --endpoint-url {ENDPOINT}", script)
    return script.replace("-e EC2_ROLE_LISTEN", f"-e EC2_ROLE_ENDPOINT_URL={ENDPOINT} -e EC2_ROLE_LISTEN")


def compose_program(docker):
    return ["docker", "compose"] if docker.docker("compose", "version", check=False).returncode == 0 else ["docker-compose"]


def compose(docker, directory, text, environment=None, **more):
    """Runs the service `app` of the compose file `text`, as the page says. The file's service `role` also gets the variables in
    `environment`."""
    files = {"compose.yaml": text}
    if environment is not None:
        # Shorten the interval of the health check. A Docker before version 25 makes the first check only after a whole interval,
        # which is 5 s in the image.
        files["test.yaml"] = "services:\n  role:\n    healthcheck:\n      interval: 500ms\n    environment:\n" + "".join(
            f"      {name}: '{value}'\n" for name, value in environment.items())
    for name, content in files.items():
        (directory / name).write_text(content)
    return subprocess.run([*compose_program(docker), "--project-name", "readme", *(f"--file={name}" for name in files), "run", "--rm", "app"],
                          cwd=directory, capture_output=True, text=True, timeout=120, env={**docker.environment, **more})
