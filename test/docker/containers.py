"""Requests from inside a container, and their results."""

import json

from images import CLIENT
from instance import METADATA
from real_metadata import LIST
from sts import ENDPOINT

# A Python program, in one line without single quotes, that prints the caller's ARN.
WHO_AM_I = f'import boto3; print(boto3.client("sts", "us-east-1", endpoint_url="{ENDPOINT}").get_caller_identity()["Arn"])'
# Exit status of curl for a refused connection; a timeout has another status.
CURL_REFUSED = 7


def start_client(docker, *options):
    return docker.run(*options, CLIENT, "sleep", "600")


def curl(docker, container, url, *options):
    """The output and the exit status of curl, with a timeout of 3 s."""
    answer = docker.execute(container, "curl", "--silent", "--max-time", "3", *options, url, check=False)
    return answer.stdout, answer.returncode


def metadata(docker, container, path, *options):
    return curl(docker, container, f"http://{METADATA}{path}", *options)


def role_name(docker, container):
    """The role name in the list that the container gets; None if the connection or the request is refused."""
    body, status = metadata(docker, container, LIST, "--fail")
    assert status in (0, CURL_REFUSED, 22), f"curl: {status}"
    return body or None


def document(docker, container):
    return json.loads(metadata(docker, container, LIST + role_name(docker, container))[0])


def refused(docker, container):
    return metadata(docker, container, LIST)[1] == CURL_REFUSED


def boto3(docker, container, code):
    """Runs Python in the container. Only the region is configured."""
    return docker.docker("exec", "--env", "AWS_DEFAULT_REGION=us-east-1", container, "python3", "-c", code, check=False)
