"""The real ec2-role on the instance. The host's own role is its credential source."""

import os
import pathlib
import subprocess
import threading

from instance import REPOSITORY, clean_environment, wait_until
from sts import ENDPOINT, arn

BINARY = pathlib.Path(os.environ.get(
    "TESTED_BINARY", REPOSITORY / f"target/{os.uname().machine}-unknown-linux-musl/release/ec2-role"))


class InstanceServer:
    def __init__(self, instance, role, listen="172.17.0.1:4567", *options):
        environment = clean_environment()
        # ec2-role must read its source credential from the instance's metadata service.
        del environment["AWS_EC2_METADATA_DISABLED"]
        with instance.ec2:
            self._process = subprocess.Popen(
                [BINARY, "--endpoint-url", ENDPOINT, "--listen", listen, *options, arn(role)],
                stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
        self.log = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stderr:
            self.log.append(line.rstrip("\n"))

    def wait_for(self, text):
        return wait_until(lambda: next((line for line in list(self.log) if text in line), None),
                          what=f"a line with {text!r} in:\n" + "\n".join(self.log) + "\nwhich")

    def ready(self):
        self.wait_for("credential of ")
        return self

    def kill(self):
        self._process.kill()
        self._process.wait(5)

    def stop(self):
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait(5)
