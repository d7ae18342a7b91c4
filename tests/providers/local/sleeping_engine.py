"""An engine's child that sleeps as vLLM on a GPU does: its process stays. Its orders come on stdin; what it is asked is noted in SEEN."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer

SEEN = Path(sys.argv[1])
ORDERS = json.loads(sys.stdin.readline())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        with SEEN.open("a") as seen:
            seen.write(f"{self.command} {self.path}\n")
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = _answer

    def address_string(self) -> str:
        return "gateway"

    def log_message(self, format: str, *args: object) -> None: ...


class Server(UnixStreamServer):
    def get_request(self) -> tuple[object, tuple[str, int]]:  # type: ignore[override]
        connection, _ = super().get_request()
        connection.settimeout(0.2)  # one thread for all: who keeps a connection does not keep the others out
        return connection, ("gateway", 0)


server = Server(ORDERS["socket_path"], Handler)
os.write(1, b'{"ready": true}\n')
server.serve_forever()
