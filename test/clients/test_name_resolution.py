"""The static binary (musl) finds the IPv4 address of a name, as glibc does, although the name server fails for other queries."""

import os
import pathlib
import socket
import subprocess
import threading

import pytest

from ec2_role import BINARY, ROLE_ARN
from recording_sts import RecordingSts

A, AAAA = 1, 28
SERVFAIL, NXDOMAIN, REFUSED = 2, 3, 5

# Whether the test runs in the network namespace that scripts/test makes, where port 53 is free for a name server. In this
# namespace the table of routes has no route, only the header line.
in_namespace = len(pathlib.Path("/proc/net/route").read_text().splitlines()) == 1


class NameServer:
    """Resolves sts.test to 127.0.0.1 (type A). For every other question, `answer` returns the response code, or None for no
    reply."""

    def __init__(self, answer):
        self._answer = answer
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 53))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        # The thread ends when it receives an empty packet.
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", ("127.0.0.1", 53))
        self._thread.join()
        self._socket.close()

    def _serve(self):
        while True:
            query, client = self._socket.recvfrom(512)
            if not query:
                return
            # A query (RFC 1035, 4.1) begins with 12 bytes: an id, flags and four counts. The question follows: the name, a type
            # and a class. The name consists of labels, each after its length, and ends with a zero byte.
            end = query.index(0, 12)
            name = query[13:end].decode()
            kind = int.from_bytes(query[end + 1 : end + 3], "big")
            question = query[12 : end + 5]
            if kind == A and name == "sts\4test":
                address = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton("127.0.0.1")
                self._socket.sendto(query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + address, client)
            elif (code := self._answer(name, kind)) is not None:
                flags = bytes([0x81, 0x80 | code])
                self._socket.sendto(query[:2] + flags + b"\0\1\0\0\0\0\0\0" + question, client)


def only_ipv6(code):
    return lambda name, kind: code if kind == AAAA else NXDOMAIN


@pytest.mark.skipif(not in_namespace, reason="needs a network namespace of its own, which scripts/test makes")
@pytest.mark.parametrize(
    "answer, search",
    [
        (only_ipv6(SERVFAIL), ""),
        (only_ipv6(REFUSED), ""),
        (only_ipv6(NXDOMAIN), ""),
        (only_ipv6(None), ""),
        (lambda name, kind: SERVFAIL if name.endswith("broken\4test") else 0, "search broken.test\noptions ndots:5\n"),
    ],
    ids=["AAAA SERVFAIL", "AAAA REFUSED", "AAAA NXDOMAIN", "AAAA unanswered", "broken search domain"],
)
def test_ipv4_address_is_resolved_if_other_queries_fail(tmp_path, answer, search):
    resolver = tmp_path / "resolv.conf"
    resolver.write_text(f"nameserver 127.0.0.1\n{search}")
    mount = ["unshare", "--mount", "sh", "-euc", 'mount --bind "$0" /etc/resolv.conf; exec "$@"', str(resolver)]
    with NameServer(answer), RecordingSts() as sts:
        endpoint = sts.endpoint.replace("127.0.0.1", "sts.test")
        ended = subprocess.run(
            [*mount, BINARY, "--credential-process", "--region", "eu-west-1", "--endpoint-url", endpoint, ROLE_ARN],
            env={"PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true", "AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "made-up"},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ended.returncode == 0, ended.stderr
    assert len(sts.requests) == 1
