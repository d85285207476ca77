"""Runs many commands in a container through one `docker exec`, because each `docker exec` takes 50 ms of processor time."""

import base64
import io
import json
import subprocess

# Runs in the container. Each line of its input is a command in JSON, each line of its output a result. Python adds LC_CTYPE to
# its own environment; a command must not inherit it.
LOOP = """
import base64, json, os, subprocess, sys
os.environ.pop("LC_CTYPE", None)
for line in sys.stdin:
    command, given, seconds = json.loads(line)
    given = {"stdin": subprocess.DEVNULL} if given is None else {"input": base64.b64decode(given)}
    try:
        result = subprocess.run(command, capture_output=True, timeout=seconds, **given)
        status, output = result.returncode, (result.stdout, result.stderr)
    except (OSError, subprocess.TimeoutExpired) as error:
        status, output = 127 if isinstance(error, OSError) else None, (b"", str(error).encode())
    print(json.dumps([status, *(base64.b64encode(bytes).decode() for bytes in output)]), flush=True)
"""


class ExecSession:
    def __init__(self, engine, container):
        self._loop = subprocess.Popen(["docker", "exec", "--interactive", container, "python3", "-c", LOOP], env=engine.environment,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, command, input=None, text=True, timeout=120):
        """Runs a command as subprocess.run does with captured output, as text or as bytes."""
        given = None if input is None else base64.b64encode(input.encode() if text else input).decode()
        try:
            self._loop.stdin.write(json.dumps([command, given, timeout]).encode() + b"\n")
            self._loop.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._loop.stdout.readline()
        if line:
            status, *output = json.loads(line)
            out, err = map(base64.b64decode, output)
        else:
            # The container ended, or takes no commands yet.
            out, err = self._loop.communicate()
            status = self._loop.returncode or 1
        if status is None:
            raise subprocess.TimeoutExpired(command, timeout)
        if text:
            out, err = (io.TextIOWrapper(io.BytesIO(output)).read() for output in (out, err))
        return subprocess.CompletedProcess(command, status, out, err)

    def ended(self):
        return self._loop.poll() is not None

    def close(self):
        self._loop.kill()
        self._loop.communicate()
