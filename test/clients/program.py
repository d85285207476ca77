"""A program that runs beside a test and says on its output what the test waits for."""

import re
import subprocess
import threading

# Longer than any wait that ends well: the longest that ec2-role itself waits between two tries is 60 s.
DEADLINE_SECONDS = 75


class Program:
    """Runs from `with` to its end; `start` is what to wait for before it is of use."""

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
        """The match in the first line that has the pattern, written already or still to come."""

        def match():
            return next((found for line in self._lines if (found := re.search(pattern, line))), None)

        with self._changed:
            self._changed.wait_for(lambda: match() or self._ended, DEADLINE_SECONDS)
            if found := match():
                return found
            raise AssertionError(f"no line with {pattern!r} in what it wrote:\n" + "\n".join(self._lines))
