"""A program that runs beside a test; the test waits for lines of its output."""

import re
import subprocess
import threading

# Time limit for a line of output that a test waits for, and for the program's end after SIGTERM. It is longer than ec2-role's
# longest back-off between two calls, 60 s.
DEADLINE_SECONDS = 75


class Program:
    """Runs until the end of its `with` block. A subclass can override `start`, to wait until the program is ready."""

    def __init__(self, command, environment):
        self._command = command
        self._environment = environment
        self._lines = []
        self._ended = False
        self._changed = threading.Condition()

    def start(self):
        pass

    def __enter__(self):
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._process.terminate()
        try:
            self._process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._reader.join()
            self._process.stdout.close()

    def _read(self):
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def lines(self):
        with self._changed:
            return list(self._lines)

    def wait_for(self, pattern):
        """Waits for the first line that contains the pattern, and returns the match."""

        def match():
            return next((found for line in self._lines if (found := re.search(pattern, line))), None)

        with self._changed:
            self._changed.wait_for(lambda: match() or self._ended, DEADLINE_SECONDS)
            if found := match():
                return found
            raise AssertionError(f"no line with {pattern!r} in what it wrote:\n" + "\n".join(self._lines))
