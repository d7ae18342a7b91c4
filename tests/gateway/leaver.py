"""A client in a process of its own that asks a gateway and leaves, and looks from outside at what becomes of his request. Standard library alone.

    python tests/gateway/leaver.py '{"url": …, "key": …, "gateway": PID, "socket": …, "authorization": …, "path": "/slots", "body": …, "phase": …}'

Leaves in the `phase`: `queue`, after `pause_s`; `prefill`, as soon as the engine works on it; `decode`, after the stream's third piece, or after
`pause_s` where the answer comes whole. Prints one line of JSON, in milliseconds since he left: `closed`, until the gateway's connection to the
engine was closed; `idle`, until the engine worked on nothing any more; and `left`, when that was, in seconds of the machine's monotonic clock.
"""

import http.client
import json
import os
import re
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

LIMIT_S = 60.0
RUNNING = re.compile(rb"^vllm:num_requests_(?:running|waiting)\{.*?\} (\S+)", re.MULTILINE)


class Engine:
    """Asked for itself, on a new connection each time."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self._head = (
            f"GET {orders['path']} HTTP/1.1\r\nhost: engine\r\nconnection: close\r\nauthorization: {orders['authorization']}\r\n\r\n".encode()
        )
        self._path = orders["path"]
        self._place = orders["socket"]

    def works_on(self) -> int:
        """Requests."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._place)
            connection.sendall(self._head)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            page = answer.read()
        if self._path == "/slots":
            return sum(slot["is_processing"] for slot in json.loads(page))
        return round(sum(float(found) for found in RUNNING.findall(page)))

    def wait_for(self, requests: int, every_s: float = 0.005) -> float:
        """Until it works on so many at most, or at least where that is more than none; when that was."""
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            found = self.works_on()
            if found >= requests > 0 or found == requests:
                return time.monotonic()
            time.sleep(every_s)
        raise SystemExit(f"the engine did not come to {requests} requests")


def connections(pid: int) -> dict[str, str]:
    """A process's unix sockets: descriptor -> socket."""
    unix = {line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines()[1:]}
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
        target = link(pid, fd)
        if target.startswith("socket:[") and target[8:-1] in unix:
            found[fd] = target
    return found


def link(pid: int, fd: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}")  # noqa: PTH115
    except OSError:
        return ""


def closed_at(pid: int, known: dict[str, str]) -> float:
    """When one of them is gone."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        if any(link(pid, fd) != target for fd, target in known.items()):
            return time.monotonic()
        time.sleep(0.0002)
    raise SystemExit("the gateway kept all its connections")


def ask(orders: dict[str, Any]) -> socket.socket:
    host, _, port = orders["url"].removeprefix("http://").rpartition(":")
    client = socket.create_connection((host, int(port)))
    body = json.dumps(orders["body"]).encode()
    head = f"POST {orders['asked']} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {orders['key']}\r\ncontent-type: application/json\r\n"
    client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return client


def in_its_phase(orders: dict[str, Any], engine: Engine, client: socket.socket) -> None:
    if orders["phase"] != "queue":
        engine.wait_for(1)
    if orders["phase"] == "decode" and orders["body"].get("stream"):
        seen = b""
        while seen.count(b"data: ") < 3:
            seen += client.recv(65536)
    elif orders["phase"] != "prefill":
        time.sleep(orders["pause_s"])


def main() -> None:
    orders = json.loads(sys.argv[1])
    engine, times = Engine(orders), {}
    engine.works_on()
    client = ask(orders)
    in_its_phase(orders, engine, client)
    waits = orders["phase"] == "queue"
    known = connections(orders["gateway"])
    idle = threading.Thread(target=lambda: times.update(idle=engine.wait_for(0)))
    left = time.monotonic()
    client.close()
    if not waits:
        idle.start()
        times["closed"] = closed_at(orders["gateway"], known)
        idle.join()
    told = {name: round((at - left) * 1e3, 2) for name, at in times.items()}
    sys.stdout.write(json.dumps({"left": left, **told}) + "\n")


if __name__ == "__main__":
    main()
