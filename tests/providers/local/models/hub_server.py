"""A hub on the loopback: lists a repository, redirects large files to a second address, serves ranges, and cuts what it is told to cut."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c0ffee" * 6 + "c0ff"
LARGE = 100_000  # bytes from which a file is stored as a large one


class Hub:
    """`files`: what the repository holds. `cut_after`: bytes of a large file's first answer. `seen`: (server, path, range, authorization)."""

    def __init__(self, files: dict[str, bytes], repo: str = "org/tiny") -> None:
        self.files = files
        self.repo = repo
        self.cut_after: int | None = None
        self.lies: dict[str, str] = {}  # a file's SHA-256 as it is listed
        self.unwell = 0  # answers of 503 that come first
        self.seen: list[tuple[str, str, str | None, str | None]] = []
        self.endpoint = self.storage = ""

    def listing(self) -> dict[str, Any]:
        return {"sha": COMMIT, "siblings": [self._sibling(path, data) for path, data in self.files.items()]}

    def _sibling(self, path: str, data: bytes) -> dict[str, Any]:
        told: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
        if len(data) >= LARGE:
            told["lfs"] = {"sha256": self.lies.get(path, hashlib.sha256(data).hexdigest()), "size": len(data), "pointerSize": 133}
        return told


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub, name)) for name in ("hub", "storage")]
    hub.endpoint, hub.storage = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


def _handler(hub: Hub, name: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = self.path.partition("?")[0]
            hub.seen.append((name, asked, self.headers.get("range"), self.headers.get("authorization")))
            if hub.unwell:
                hub.unwell -= 1
                return self._answer(503, b"")
            if asked.startswith(f"/api/models/{hub.repo}/revision/main"):
                return self._answer(200, json.dumps(hub.listing()).encode())
            path = asked.removeprefix(f"/{hub.repo}/resolve/{COMMIT}/").removeprefix("/stored/")
            data = hub.files.get(path)
            if data is None:
                return self._answer(404, b"")
            if name == "hub" and len(data) >= LARGE:
                return self._answer(302, b"", location=f"{hub.storage}/stored/{path}")
            return self._send(data)

        def _send(self, data: bytes) -> None:
            begin = int((self.headers.get("range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
            rest = data[begin:]
            told = {"content-range": f"bytes {begin}-{len(data) - 1}/{len(data)}"} if begin else {}
            if hub.cut_after is not None and len(data) >= LARGE:
                cut, hub.cut_after = hub.cut_after, None
                self.close_connection = True
                return self._answer(206 if begin else 200, rest[:cut], length=len(rest), **told)
            return self._answer(206 if begin else 200, rest, **told)

        def _answer(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
            self.send_response(status)
            for header, value in headers.items():
                self.send_header(header, value)
            self.send_header("content-length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return None

    return Handler
