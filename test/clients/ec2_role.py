"""ec2-role on a free loopback port."""

import os
import pathlib
import re
import urllib.error
import urllib.request
import uuid

from program import Program

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("TESTED_BINARY", f"{REPOSITORY}/target/{os.uname().machine}-unknown-linux-musl/release/ec2-role")

ROLE_NAME = "exc_web"
ROLE_ARN = f"arn:aws:iam::123456789012:role/{ROLE_NAME}"

TOKEN_PATH = "/latest/api/token"
LIST_PATH = "/latest/meta-data/iam/security-credentials/"
DOCUMENT_PATH = LIST_PATH + ROLE_NAME

ACCESS_LOG_LINE = re.compile(r'^\S+ - - \[[^]]+\] "(?P<method>\S+) (?P<path>\S+) HTTP/1\.[01]" (?P<status>\d{3}) ')


class Ec2Role(Program):
    def __init__(self, *options, environment, listen="127.0.0.1:0"):
        super().__init__(
            [BINARY, "--listen", listen, *options, ROLE_ARN],
            {"AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1", **environment},
        )

    def start(self):
        self.endpoint = "http://" + self.wait_for(r"ec2-role: listening on (\S+)")[1]

    def wait_for_credential(self):
        self.wait_for("ec2-role: credential of ")

    def requests(self):
        """The requests so far, oldest first: (method, path, status) of each line of the access log."""
        # Send a further request and wait for its log line. Requests are logged in order, so all earlier ones are then in the log.
        marker = f"/{uuid.uuid4()}"
        fetch(self.endpoint, "GET", marker)
        self.wait_for(marker)
        entries = [entry for line in self.lines() if (entry := ACCESS_LOG_LINE.match(line))]
        return [(entry["method"], entry["path"], int(entry["status"])) for entry in entries if entry["path"] != marker]


def fetch(endpoint, method, path, headers={}):
    """Status and body of one request, without a proxy."""
    request = urllib.request.Request(endpoint + path, method=method, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as response:
        with response:
            return response.code, response.read().decode()


def fetch_document(endpoint):
    """The text of the credential document, requested with a session token."""
    _, token = fetch(endpoint, "PUT", TOKEN_PATH, {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    status, document = fetch(endpoint, "GET", DOCUMENT_PATH, {"X-aws-ec2-metadata-token": token})
    assert status == 200
    return document
