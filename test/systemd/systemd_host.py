"""Requests and commands on a host with systemd that has a container on docker0."""

import json
import pathlib
import re

from instance import wait_until
from real_metadata import LIST
from sts import ENDPOINT, arn

METADATA = "http://169.254.169.254"


class SystemdHost:
    """A subclass has `execute(*command, **options)`, like subprocess.run, and `container_namespace`, a file for nsenter."""

    def run(self, *command, check=True, **options):
        result = self.execute(*command, **options)
        if check and result.returncode != 0:
            raise AssertionError(f"{' '.join(command)[:200]}: {result.returncode}\n{result.stdout}{result.stderr}\n{self.events()}")
        return result

    def in_container(self, *command, check=True, **options):
        """Runs a command in the container's network namespace, behind docker0."""
        return self.run("nsenter", f"--net={self.container_namespace}", *command, check=check, **options)

    def put(self, source, target, mode="0644"):
        content = source.read_bytes() if isinstance(source, pathlib.Path) else source.encode()
        self.run("sh", "-c", f'mkdir -p "$(dirname {target})" && cat >{target} && chmod {mode} {target}', input=content, text=False)

    def configure(self, name, role, **variables):
        lines = {"EC2_ROLE_ARN": arn(role), "EC2_ROLE_ENDPOINT_URL": ENDPOINT, **variables}
        self.put("".join(f"{key}={value}\n" for key, value in lines.items()), f"/etc/ec2-role/{name}.conf")

    def show(self, unit, *properties):
        lines = self.run("systemctl", "show", unit, *(f"--property={name}" for name in properties)).stdout.splitlines()
        values = dict(line.split("=", 1) for line in lines)
        return [values[name] for name in properties] if len(properties) > 1 else values[properties[0]]

    def wait_until_active(self, unit, seconds=60):
        try:
            wait_until(lambda: self.show(unit, "ActiveState") == "active", seconds, what=f"{unit}'s becoming active")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.run('systemctl', 'status', unit, check=False).stdout}\n{self.events()}")

    def journal(self):
        return self.run("journalctl", "--no-pager", "--output=cat", check=False).stdout

    def count_hangs(self):
        """How many times the supervisor replaced a server that hung, or systemd killed a unit that did not stop in time."""
        return len(re.findall("it does not answer|State 'stop-sigterm' timed out", self.journal()))

    def events(self):
        """The journal's last 30 lines, without the GET lines of the access log."""
        return "\n".join([line for line in self.journal().splitlines() if '"GET /' not in line][-30:])

    def processes(self, unit="ec2-role@web"):
        """The unit's processes as {name: pid}."""
        supervisor = self.show(unit, "MainPID")
        listed = self.run("ps", "-o", "comm=,pid=", "--pid", supervisor, "--ppid", supervisor, check=False).stdout
        return {name: int(pid) for name, pid in (line.split() for line in listed.splitlines())}

    def ask(self, path=LIST, token=None, seconds=3):
        """The (status, body) of a request from the container; None if there is no response."""
        header = ("--header", f"X-aws-ec2-metadata-token: {token}") if token else ()
        result = self.in_container("curl", "--silent", "--max-time", str(seconds), "--write-out", "\n%{http_code}", *header,
                                   METADATA + path, check=False)
        if result.returncode != 0:
            return None
        body, status = result.stdout.rsplit("\n", 1)
        return int(status), body

    def session_token(self):
        return self.in_container("curl", "--silent", "--fail", "--request", "PUT", "--header",
                                 "X-aws-ec2-metadata-token-ttl-seconds: 300", METADATA + "/latest/api/token").stdout

    def wait_until_served(self, role="exc_web", seconds=60):
        try:
            wait_until(lambda: self.ask() == (200, role), seconds, what=f"a container's getting {role}")
        except AssertionError as error:
            raise AssertionError(f"{error}, but {self.ask()}\n{self.events()}")
        return json.loads(self.ask(LIST + role)[1])
