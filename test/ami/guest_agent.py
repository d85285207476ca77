"""Runs commands in the machine through QEMU's guest agent, which needs no network, no login and no correct clock."""

import base64
import itertools
import json
import socket
import subprocess
import time

_number = itertools.count(1)


class GuestAgent:
    def __init__(self, path):
        self._path = str(path)
        self._connection = None
        self._received = b""

    def connect(self):
        """Connects to the agent and returns whether it responds."""
        self.close()
        self._received = b""
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(3)
        # The agent can first send replies to requests of an earlier connection: skip all replies before the one with this number.
        number = next(_number)
        try:
            self._connection.connect(self._path)
            self._send("guest-sync", id=number)
            while self._receive().get("return") != number:
                pass
        except OSError:
            return False
        self._connection.settimeout(120)
        return True

    def _send(self, command, **arguments):
        self._connection.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")

    def _receive(self):
        while b"\n" not in self._received:
            received = self._connection.recv(65536)
            if not received:
                raise ConnectionError("QEMU closed the connection to the guest agent")
            self._received += received
        line, _, self._received = self._received.partition(b"\n")
        return json.loads(line)

    def _call(self, command, **arguments):
        self._send(command, **arguments)
        answer = self._receive()
        if "error" in answer:
            raise AssertionError(f"{command}: {answer['error']['desc']}")
        return answer["return"]

    def run(self, *command, input=None, text=True, timeout=120):
        """Runs a command as subprocess.run does with captured output, as text or as bytes."""
        given = {"input-data": base64.b64encode(input.encode() if text else input).decode()} if input else {}
        pid = self._call("guest-exec", path=command[0], arg=list(command[1:]), **{"capture-output": True}, **given)["pid"]
        deadline = time.monotonic() + timeout
        # The agent sends no event when the command ends, so poll.
        while not (status := self._call("guest-exec-status", pid=pid))["exited"]:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(command, timeout)
            time.sleep(0.05)
        out, err = (base64.b64decode(status.get(name, "")) for name in ("out-data", "err-data"))
        if text:
            out, err = out.decode(), err.decode()
        return subprocess.CompletedProcess(command, status.get("exitcode", -status.get("signal", 0)), out, err)

    def close(self):
        if self._connection:
            self._connection.close()
