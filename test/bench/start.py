"""Measures the time from exec to the first credential served."""

import socket
import time

from servers import BINARY, KEYS, LIST_PATH, ROLE_ARN, Child

REQUEST = f"GET {LIST_PATH}exc_web HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def first_credential(directory, sts):
    """Milliseconds from ec2-role's start to the first response, less the duration of the STS call. The client connects before the
    start and waits in the backlog of the listening socket. It does not poll, so the result contains no polling interval."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(REQUEST)
            command = [BINARY, "--listen", "-", "--endpoint-url", sts.url, ROLE_ARN]
            begun = time.perf_counter()
            with Child(command, KEYS, f"{directory}/start.log", stdin=listener):
                answer = client.recv(65536)
                took = time.perf_counter() - begun
                own = int(sts.line()) / 1e9
    if b" 200 OK" not in answer:
        raise SystemExit(f"bench: the first answer is no credential: {answer[:200]}")
    return (took - own) * 1000
