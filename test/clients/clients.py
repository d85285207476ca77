"""Lists the real clients, which find credentials with an SDK or another library, and the requests that each one makes."""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys

from aws import BUCKET
from ec2_role import DOCUMENT_PATH, LIST_PATH, TOKEN_PATH

HERE = pathlib.Path(__file__).parent

# Time limit of a client's run, longer than the retries of any client: obstore retries for up to 180 s, deltalake for 10 s.
DEADLINE_SECONDS = 200

TOKEN = ("PUT", TOKEN_PATH)
LIST = ("GET", LIST_PATH)
LIST_WITHOUT_SLASH = ("GET", LIST_PATH.rstrip("/"))
LIST_WITH_TWO_SLASHES = ("GET", "/" + LIST_PATH)
DOCUMENT = ("GET", DOCUMENT_PATH)
DOCUMENT_WITH_TWO_SLASHES = ("GET", "/" + DOCUMENT_PATH)
INFO = ("GET", "/latest/meta-data/iam/info")


@dataclasses.dataclass
class Client:
    name: str
    command: list
    asks: list  # the requests it makes, in this order; a request may repeat
    endpoint_variable: str = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
    # The variables with which the client falls back to IMDSv1. Empty: it falls back by default. None: it never falls back.
    version_1: dict | None = dataclasses.field(default_factory=dict)
    # The variables from which the client takes the URI of the container form. The client also reads the container token from the
    # file in AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE.
    container_variables: tuple = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")

    def __str__(self):
        return self.name

    def run(self, aws, home, environment):
        """Runs the client with this environment and no other configuration."""
        return subprocess.run(
            [part.format(aws=aws.endpoint, bucket=BUCKET) for part in self.command],
            env={"HOME": str(home), "PATH": os.defpath, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
        )


def python(script):
    return [sys.executable, f"{HERE}/{script}", "{aws}", "{bucket}"]


def javascript(script):
    return [shutil.which("node"), f"{HERE}/{script}", "{aws}"]


def aws_cli(*arguments):
    return [f"{pathlib.Path(sys.executable).parent}/aws", *arguments]


CLIENTS = [
    Client("boto3", python("client_boto3.py"), [TOKEN, LIST, DOCUMENT]),
    Client(
        "aws-cli",
        aws_cli("sts", "get-caller-identity", "--region", "us-east-1", "--endpoint-url", "{aws}"),
        [TOKEN, LIST, DOCUMENT],
    ),
    Client("javascript", javascript("client_javascript.mjs"), [TOKEN, LIST, DOCUMENT]),
    Client(
        "javascript-ec2-metadata-service",
        javascript("client_javascript_metadata.mjs"),
        [TOKEN, LIST_WITH_TWO_SLASHES, DOCUMENT_WITH_TWO_SLASHES],
        container_variables=(),
    ),
    Client("deltalake", python("client_deltalake.py"), [TOKEN, LIST, DOCUMENT], version_1=None),
    Client(
        "obstore",
        python("client_obstore.py"),
        [TOKEN, LIST, DOCUMENT],
        endpoint_variable="AWS_METADATA_ENDPOINT",
        version_1={"AWS_IMDSV1_FALLBACK": "true"},
        container_variables=("AWS_CONTAINER_CREDENTIALS_FULL_URI",),
    ),
    Client(
        "minio",
        python("client_minio.py"),
        [TOKEN, LIST, DOCUMENT],
        version_1=None,
        container_variables=("AWS_CONTAINER_CREDENTIALS_FULL_URI",),
    ),
    Client(
        "ec2-metadata",
        python("client_ec2_metadata.py"),
        [TOKEN, INFO, DOCUMENT],
        version_1=None,
        container_variables=(),
    ),
    Client("awscrt", python("client_awscrt.py"), [TOKEN, LIST, DOCUMENT]),
    Client("pyarrow", python("client_pyarrow.py"), [TOKEN, LIST_WITHOUT_SLASH, DOCUMENT]),
]


def client_named(name):
    return next(client for client in CLIENTS if client.name == name)
