"""What a container asks and sees."""

import json

from images import CLIENT
from instance import METADATA
from real_metadata import LIST

# What comes over the network: curl's own status tells a refusal from a time-out.
CURL_REFUSED = 7


def start_client(docker, *options):
    return docker.run(*options, CLIENT, "sleep", "600")


def curl(docker, container, url, *options):
    """What curl printed and its exit status; it gives up after 3 s."""
    answer = docker.execute(container, "curl", "--silent", "--max-time", "3", *options, url, check=False)
    return answer.stdout, answer.returncode


def metadata(docker, container, path, *options):
    return curl(docker, container, f"http://{METADATA}{path}", *options)


def role_name(docker, container):
    """The name that the container's list shows; None when it is refused."""
    body, status = metadata(docker, container, LIST, "--fail")
    assert status in (0, CURL_REFUSED, 22), f"curl: {status}"
    return body or None


def document(docker, container):
    return json.loads(metadata(docker, container, LIST + role_name(docker, container))[0])


def refused(docker, container):
    return metadata(docker, container, LIST)[1] == CURL_REFUSED


def boto3(docker, container, code):
    """Runs Python in the container, with nothing configured but the region."""
    return docker.docker("exec", "--env", "AWS_DEFAULT_REGION=us-east-1", container, "python3", "-c", code, check=False)
