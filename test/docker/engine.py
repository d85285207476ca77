"""A Docker Engine of the tests: dockerd runs in the instance's namespace and keeps all its files in one directory."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from instance import clean_environment, wait_until

PREFIX = "ec2-role-engine"


def remove_what_killed_runs_left():
    for directory in pathlib.Path(tempfile.gettempdir()).glob(f"{PREFIX}-*"):
        match = re.fullmatch(PREFIX + r"-(\d+)-\w+", directory.name)
        if match and not os.path.exists(f"/proc/{match[1]}"):
            _delete(directory)


def _delete(directory):
    for line in reversed(pathlib.Path("/proc/self/mountinfo").read_text().splitlines()):
        mounted_at = line.split()[4]
        if pathlib.Path(mounted_at).is_relative_to(directory):
            subprocess.run(["umount", "--lazy", mounted_at], check=False)
    shutil.rmtree(directory, ignore_errors=True)


class Engine:
    def __init__(self, instance):
        self.instance = instance
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"{PREFIX}-{os.getpid()}-"))
        # A tmpfs, because a disk takes half a minute to write and to delete the many small files of the images.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4g,mode=700", "tmpfs", self.directory], check=True)
        self.socket = f"unix://{self.directory}/docker.sock"
        self.environment = clean_environment(DOCKER_HOST=self.socket, DOCKER_BUILDKIT="0")
        self.settings = {}  # content of daemon.json
        self._daemon = None

    def start(self):
        (self.directory / "daemon.json").write_text(json.dumps(self.settings))
        with self.instance.ec2, open(self.directory / "log", "ab") as log:
            # The kernel ends dockerd when the test process dies.
            self._daemon = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "dockerd", "--host", self.socket,
                 "--config-file", f"{self.directory}/daemon.json", "--pidfile", f"{self.directory}/pid",
                 "--data-root", f"{self.directory}/data", "--exec-root", f"{self.directory}/exec",
                 "--cgroup-parent", f"/{self.directory.name}"],
                stdout=log, stderr=log, env=self.environment)
        wait_until(self._answers, what="dockerd's first answer")

    def _answers(self):
        if self._daemon.poll() is not None:
            raise AssertionError(f"dockerd ended: {(self.directory / 'log').read_text()[-2000:]}")
        return self.docker("version", check=False).returncode == 0

    def stop(self):
        self._daemon.terminate()
        self._daemon.wait(30)

    def restart(self):
        self.stop()
        self.start()

    def docker(self, *arguments, check=True, **options):
        result = subprocess.run(["docker", *map(str, arguments)], capture_output=True, env=self.environment,
                                **{"text": True, "timeout": 120, **options})
        if check and result.returncode != 0:
            raise AssertionError(f"docker {' '.join(map(str, arguments))}: {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def run(self, *arguments):
        """Runs `docker run --detach` and returns the container's id. The stop signal is KILL, because PID 1 of a container
        ignores SIGTERM by default."""
        return self.docker("run", "--detach", "--stop-signal", "KILL", *arguments).stdout.strip()

    def execute(self, container, *command, check=True):
        return self.docker("exec", container, *command, check=check)

    def log(self, container):
        result = self.docker("logs", container)
        return result.stdout + result.stderr

    def inspect(self, thing, template):
        return self.docker("inspect", "--format", template, thing).stdout.strip()

    def hung_servers(self):
        """The logs of containers in which a server hung. The supervisor soon replaces a hung server, so a test may not notice."""
        logs = self.directory.glob("data/containers/*/**/*.log")
        return [log for log in logs if b"it does not answer" in log.read_bytes()]

    def remove_all(self):
        containers = self.docker("ps", "--all", "--quiet").stdout.split()
        if containers:
            self.docker("rm", "--force", "--volumes", *containers)
        self.docker("network", "prune", "--force")

    def remove(self):
        try:
            if self._daemon is not None and self._daemon.poll() is None:
                self.remove_all()
                self.stop()
        finally:
            _delete(self.directory)
