"""The servers that are measured. Each listens on a port of its own and writes its log to a file."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent
REPOSITORY = HERE.parents[1]
BINARY = os.environ.get("TESTED_BINARY", f"{REPOSITORY}/target/x86_64-unknown-linux-musl/release/ec2-role")
PEERS = REPOSITORY / "target/peers/bin"

ROLE_ARN = "arn:aws:iam::123456789012:role/exc_web"
LIST_PATH = "/latest/meta-data/iam/security-credentials/"
# Time limit of a server's start. The slowest server, in Python, starts within a second on an idle machine.
START_SECONDS = 30

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "made-up", "AWS_REGION": "us-east-1"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url, timeout=10):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=timeout) as response:
        return response.read()


class Child:
    """A child process of the benchmark, which ends with its `with` block, even after an exception."""

    def __init__(self, command, environment, log, **options):
        self.log = pathlib.Path(log)
        with self.log.open("ab") as output:
            options = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, **options}
            environment = {"PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true", **environment}
            self.process = subprocess.Popen(command, env=environment, **options)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


class Sts(Child):
    def __init__(self, directory, *options):
        command = [sys.executable, HERE / "sts.py", *options]
        super().__init__(command, {}, f"{directory}/sts.log", stdout=subprocess.PIPE, text=True)
        self.url = self.line()

    def line(self):
        """Waits for the next line of the process's output and returns it."""
        return self.process.stdout.readline().strip()


class Server(Child):
    """A metadata server. `role` is the role name that it lists."""

    def __init__(self, command, environment, log, port, role="exc_web", address="127.0.0.1", **options):
        super().__init__(command, environment, log, **options)
        self.base = f"http://{address}:{port}/"
        self.document = f"{self.base[:-1]}{LIST_PATH}{role}"

    def __enter__(self):
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                get(self.document)
                return self
            except (OSError, urllib.error.URLError) as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    tail = self.log.read_text(errors="replace")[-2000:]
                    self.__exit__()
                    raise SystemExit(f"bench: {self.process.args[0]}: does not answer: {error}\n{tail}") from None
            time.sleep(0.0005)


class Ec2Role(Server):
    def __init__(self, directory, sts_url, *options, environment={}, name="ec2-role", address="127.0.0.1", port=None, **more):
        self.port = port or free_port()
        command = [BINARY, "--listen", f"{address}:{self.port}", "--endpoint-url", sts_url, *options, ROLE_ARN]
        super().__init__(command, {**KEYS, **environment}, f"{directory}/{name}.log", self.port, address=address, **more)

    def answer(self):
        """The bytes of a complete response."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as client:
            client.sendall(f"GET {LIST_PATH}exc_web HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            return b"".join(iter(lambda: client.recv(65536), b""))


def limit(directory, answer):
    port = free_port()
    program, file = f"{directory}/limit", pathlib.Path(directory) / "answer"
    file.write_bytes(answer)
    subprocess.run(["cc", "-O2", "-o", program, HERE / "limit.c"], check=True)
    return Server([program, str(port), str(file)], {}, f"{directory}/limit.log", port)


def nginx(directory, document):
    port = free_port()
    configuration = (HERE / "nginx.conf").read_text()
    for name, value in {"PORT": port, "DIRECTORY": directory, "DOCUMENT": document}.items():
        configuration = configuration.replace(f"@{name}@", str(value))
    file = pathlib.Path(directory) / "nginx.conf"
    file.write_text(configuration)
    return Server(["nginx", "-e", f"{directory}/nginx-error.log", "-c", str(file)], {}, f"{directory}/nginx.log", port)


def sinatra(directory, document):
    port = free_port()
    file = pathlib.Path(directory) / "document.json"
    file.write_text(document)
    environment = {"PORT": str(port), "DOCUMENT": str(file), "LANG": "C.UTF-8"}
    return Server(["ruby", HERE / "sinatra.rb"], environment, f"{directory}/sinatra.log", port)


def moto(directory):
    port = free_port()
    command = [REPOSITORY / "target/venv/bin/moto_server", "-H", "127.0.0.1", "-p", str(port)]
    return Server(command, {}, f"{directory}/moto.log", port, role="default-role")


def ectou(directory, sts_url):
    port = free_port()
    command = [PEERS / "ectou_metadata", "--host", "127.0.0.1", "--port", str(port), "--role-arn", ROLE_ARN]
    environment = {**KEYS, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL_STS": sts_url}
    return Server(command, environment, f"{directory}/ectou.log", port, role="role-name")


def metadata_proxy(directory, sts_url):
    """terrycain-metadata-proxy, which gets credentials from a central server and not from STS. It ignores its option
    --config-file, so `program` passes the configuration file as the default argument of `Core.__init__`."""
    port = free_port()
    file = pathlib.Path(directory) / "metadata-proxy.json"
    file.write_text(json.dumps({"role": ROLE_ARN, "key": "made-up", "sts_url": sts_url, "metadata": {}}))
    program = (
        "import sys, metadata_proxy.core as core, metadata_proxy.server as server\n"
        f"core.Core.__init__.__defaults__ = ({str(file)!r},)\n"
        "server.run()"
    )
    command = [PEERS / "python", "-c", program, "--host", "127.0.0.1", "--port", str(port)]
    return Server(command, {}, f"{directory}/metadata-proxy.log", port)
