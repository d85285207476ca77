"""A server in place of ec2-role, for tests of the firewall rules alone: every response is the server's name."""

import contextlib
import http.server
import socket
import threading


class StandIn:
    def __init__(self, namespace, address, port=4567, name="stand-in"):
        body = name.encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            # With the default backlog of 5, the kernel would drop SYNs of a burst.
            request_queue_size = 256
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

            def server_bind(self):
                self.socket.bind(self.server_address)
                self.server_name, self.server_port = self.server_address[:2]

            allow_reuse_address = True

        with namespace:
            self._server = Server((address, port), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def named(name):
    """Renames this process inside the block, because the hook refuses a port on which a program other than ec2-role listens."""
    with open("/proc/self/comm", "r+") as comm:
        before = comm.read().strip()
        comm.seek(0)
        comm.write(name)
        comm.flush()
        try:
            yield
        finally:
            comm.seek(0)
            comm.write(before)
