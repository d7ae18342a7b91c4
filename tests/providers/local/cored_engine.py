"""An engine's child as vLLM's: a server that answers for itself, says how many requests run, and outlives its core, a process of its own.

/health says 503 while the file DEAD is there.
"""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

DEAD = Path(sys.argv[1])
ORDERS = json.loads(sys.stdin.readline())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"vllm:num_requests_running 1\n" if self.path == "/metrics" else b""
        self.send_response(503 if self.path == "/health" and DEAD.exists() else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "gateway"

    def log_message(self, format: str, *args: object) -> None: ...


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[object, tuple[str, int]]:  # type: ignore[override]
        return super().get_request()[0], ("gateway", 0)


core = subprocess.Popen(["VLLM::EngineCore", "-c", "echo begun; read line; :"], executable="/bin/sh", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
assert core.stdout is not None
core.stdout.readline()  # before that the kernel may not show its name yet
server = Server(ORDERS["socket_path"], Handler)
os.write(1, b'{"ready": true}\n')
server.serve_forever()
