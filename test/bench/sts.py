"""A small, fast STS: returns a new credential for every call, and prints the duration of the call on stdout.

The first line of output is its URL; each further line is the nanoseconds of a call, or `hangs`. A GET returns the credential
in EC2's form, for servers that request credentials from a central server.
"""

import argparse
import datetime
import socket
import ssl
import time

ANSWER = (
    '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
    "<AccessKeyId>ASIA{number:016}</AccessKeyId><SecretAccessKey>made-up/secret/access/key/of/bench</SecretAccessKey>"
    "<SessionToken>{token}</SessionToken><Expiration>{iso}</Expiration></Credentials></AssumeRoleResult>"
    "<ResponseMetadata><RequestId>c0ffee00-0000-4000-8000-{number:012}</RequestId></ResponseMetadata></AssumeRoleResponse>"
)
EC2_ANSWER = (
    '{{"Code":"Success","LastUpdated":"{iso}","Type":"AWS-HMAC","AccessKeyId":"ASIA{number:016}",'
    '"SecretAccessKey":"made-up/secret/access/key/of/bench","Token":"{token}","Expiration":"{iso}"}}'
)
# About as long as the shortest session tokens of the real STS.
TOKEN = "made+up/token" * 30


def read_request(connection):
    """Reads a request with its body, and returns its head."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return data.decode("latin-1")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    head = head.decode("latin-1")
    lengths = [line.split(":")[1] for line in head.lower().split("\r\n") if line.startswith("content-length:")]
    while lengths and len(body) < int(lengths[0]):
        body += connection.recv(65536)
    return head


def answer(head, number, lifetime):
    expiration = time.time() + lifetime
    iso = datetime.datetime.fromtimestamp(expiration, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    values = {"number": number, "expiration": expiration, "iso": iso, "token": TOKEN}
    if head.startswith("GET"):
        kind, form = "application/json", EC2_ANSWER
    else:
        kind, form = "text/xml", ANSWER
    body = form.format(**values)
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
    return (
        f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n\r\n{body}"
    ).encode()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lifetime", type=float, default=3600)
    parser.add_argument("--then-hang", action="store_true", help="answer the first call and no other")
    parser.add_argument("--certificate", help="speak TLS; with --key")
    parser.add_argument("--key")
    arguments = parser.parse_args()

    context = None
    if arguments.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(arguments.certificate, arguments.key)
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    scheme = "https" if context else "http"
    print(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    left_hanging = []
    number = 0
    while True:
        connection, _ = listener.accept()
        begun = time.perf_counter_ns()
        number += 1
        if arguments.then_hang and number > 1:
            left_hanging.append(connection)
            print("hangs", flush=True)
            continue
        try:
            if context:
                connection = context.wrap_socket(connection, server_side=True)
            connection.sendall(answer(read_request(connection), number, arguments.lifetime))
        except OSError:
            pass
        finally:
            connection.close()
        print(time.perf_counter_ns() - begun, flush=True)


if __name__ == "__main__":
    main()
