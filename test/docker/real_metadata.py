"""A stand-in for EC2's metadata service on 169.254.169.254 and fd00:ec2::254. It returns credentials of the host's own role."""

import http.server
import json
import re
import socket
import threading

HOST_ROLE = "host-role"
HOST_KEY = "ASIAHOSTROLEHOSTROLE"
LIST = "/latest/meta-data/iam/security-credentials/"
TOKEN = "AQAEAreal-metadata-service-token-of-the-instance-000000=="


class RealMetadata:
    def __init__(self, namespace):
        self.credential = {
            "Code": "Success", "LastUpdated": "2026-11-23T12:00:00Z", "Type": "AWS-HMAC",
            "AccessKeyId": HOST_KEY, "SecretAccessKey": "host-secret", "Token": "host-token",
            "Expiration": "2099-01-01T00:00:00Z",
        }
        self.documents = {}  # path: body, in addition to the documents of `answer`
        self.requests = []  # (client's address, path), oldest first
        self.ip_ttl = 64    # IP TTL of the responses; EC2's default hop limit for instances is 1
        self._servers = []
        with namespace:
            # EC2's service has port 80 only. Without port 443 here, a test that this port is refused could not fail.
            for family, address, port in ((socket.AF_INET, "169.254.169.254", 80), (socket.AF_INET, "169.254.169.254", 443),
                                          (socket.AF_INET6, "fd00:ec2::254", 80), (socket.AF_INET6, "fd00:ec2::254", 443)):
                server = _Server(family, (address, port), self)
                threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
                self._servers.append(server)

    def answer(self, method, path):
        if method == "PUT" and path == "/latest/api/token":
            return 200, TOKEN
        # All dated API versions return the same documents as `latest`.
        path = re.sub(r"^/\d{4}-\d\d-\d\d/", "/latest/", path)
        documents = {
            **self.documents,
            LIST: HOST_ROLE,
            LIST + HOST_ROLE: json.dumps(self.credential, indent=2),
            "/latest/meta-data/placement/region": "us-east-1",
            "/latest/meta-data/placement/availability-zone": "us-east-1a",
            "/latest/meta-data/instance-id": "i-0123456789abcdef0",
            "/latest/dynamic/instance-identity/document": json.dumps(
                {"region": "us-east-1", "instanceId": "i-0123456789abcdef0", "accountId": "123456789012"}),
        }
        directory = path.rstrip("/") + "/"
        body = documents.get(path) or documents.get(directory) or _listing(documents, directory)
        return (200, body) if body else (404, "")

    def close(self):
        for server in self._servers:
            server.shutdown()
            server.server_close()


def _listing(documents, directory):
    below = [path.removeprefix(directory).partition("/") for path in documents if path.startswith(directory)]
    return "\n".join(sorted({name + slash for name, slash, _ in below}))


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, family, address, real):
        self.address_family = family
        self.real = real
        super().__init__(address, _Handler)

    def get_request(self):
        connection, client = super().get_request()
        connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, self.real.ip_ttl)
        return connection, client

    def server_bind(self):
        # Replaces HTTPServer.server_bind, which would also look up the name of the address.
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, self.real.ip_ttl)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.server_address[:2]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self):
        real = self.server.real
        real.requests.append((self.client_address[0], self.path))
        status, body = real.answer(self.command, self.path)
        body = body.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "text/plain")
        ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        if self.command == "PUT" and ttl:
            self.send_header("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", ttl)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = handle_any

    def log_message(self, *_):
        pass
