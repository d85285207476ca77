"""A reverse proxy that refuses chosen requests and passes on the rest."""

import http.client
import http.server
import threading
from urllib.parse import urlsplit


class Front:
    """`refuse(method, path)` returns the status with which the proxy refuses a request, or None to pass the request on."""

    def __init__(self, target, refuse):
        netloc = urlsplit(target).netloc

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.requestline.split()[1]  # self.path turns two leading slashes into one
                if status := refuse(self.command, path):
                    self.send_response_only(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                # Pass the headers on unchanged, including Host, because they are signed.
                behind = http.client.HTTPConnection(netloc, timeout=30)
                behind.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    behind.putheader(name, value)
                behind.endheaders(body)
                response = behind.getresponse()
                content = response.read()
                self.send_response_only(response.status)
                for name, value in response.getheaders():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
                behind.close()

            do_GET = do_PUT = do_POST = answer

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
