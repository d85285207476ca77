"""Serves a release's tarball over HTTP in the namespace `aws`, and makes user-data with the tarball's URL."""

import hashlib
import http.server
import io
import subprocess
import tarfile
import threading

from host import SCRIPTS
from instance import AWS_ADDRESS, clean_environment
from sts import ENDPOINT, arn


def without_file(tarball, name):
    changed = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(tarball)) as old, tarfile.open(fileobj=changed, mode="w:gz") as new:
        for member in old:
            if member.name.rpartition("/")[2] != name:
                new.addfile(member, old.extractfile(member))
    return changed.getvalue()


class Release:
    def __init__(self, aws, without=None):
        tarball = subprocess.run([SCRIPTS / "release", "--tarball"], check=True, capture_output=True, env=clean_environment()).stdout
        if without:
            tarball = without_file(tarball, without)
        self.sum = hashlib.sha256(tarball).hexdigest()
        self.allowed = threading.Event()  # downloads wait until it is set
        self.allowed.set()
        allowed = self.allowed

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                allowed.wait()
                self.send_response(200)
                self.send_header("Content-Length", str(len(tarball)))
                self.end_headers()
                self.wfile.write(tarball)

            def log_message(self, *_):
                pass

        with aws:
            self._server = http.server.ThreadingHTTPServer((AWS_ADDRESS, 0), Handler)
        self.url = f"http://{AWS_ADDRESS}:{self._server.server_port}/ec2-role-x86_64.tar.gz"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def user_data(url, sum, *more, check=True):
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True).stdout.strip()
    result = subprocess.run([SCRIPTS / "ec2-role-user-data", "--role", f"web={arn('exc_web')}@docker0",
                             "--url", url.replace("x86_64", machine), "--sha256", sum,
                             "--variable", f"EC2_ROLE_ENDPOINT_URL={ENDPOINT}", *more],
                            capture_output=True, text=True, check=check)
    return result.stdout if check else result
