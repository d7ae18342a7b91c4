"""Loads on one gateway: questions, the load generator, and what the mock is to do."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from rig.bodies import CHAT, body
from rig.gateways import KEY, MOCK_PORT, Gateway
from rig.processes import HERE, spawn

STARTUP_LIMIT_S = 120
HEADERS = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}


class Failed(RuntimeError):
    """A gateway did not do what was asked of it; its figure is left out, and the table says so."""


def post(url: str, content: bytes, headers: dict[str, str], timeout_s: float) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, data=content, headers=headers), timeout=timeout_s) as response:
        answer: bytes = response.read()
        return answer


def start_mock(core: int | str = 1, patience_s: float = 180) -> "subprocess.Popen[bytes]":
    """Waits while another benchmark's mock has the port. Raises Failed."""
    deadline = time.monotonic() + patience_s
    while True:
        process = spawn((str(HERE / "bin/mockup"), str(MOCK_PORT)), core, {}, HERE / "logs/mock.log")
        time.sleep(0.2)
        if process.poll() is None:
            return process
        if time.monotonic() > deadline:
            raise Failed(f"port {MOCK_PORT} is taken: is another benchmark running?")
        time.sleep(1)


def mock_does(options: str) -> None:
    """`options` as bench/src/mockup.c reads them: -c50 events, -d10 milliseconds apart, -t5 before the first, -s1 with the time in each."""
    post(f"http://127.0.0.1:{MOCK_PORT}/defaults{options}", b"{}", {}, 5)


def ask(gateway: Gateway, content: bytes, timeout_s: float = 20, path: str = CHAT) -> bytes:
    return post(f"http://127.0.0.1:{gateway.port}{path}", content, HEADERS | gateway.headers, timeout_s)


def loadgen(gateway: Gateway, content: Path, path: str = CHAT, **options: float) -> list[str]:
    command = ["taskset", "-c", "1", str(HERE / "bin/loadgen"), "-p", str(gateway.port), "-u", path, "-b", str(content)]
    for name, value in {"Authorization": f"Bearer {KEY}", **gateway.headers}.items():
        command += ["-H", f"{name}: {value}"]
    for name, value in options.items():
        command += [f"-{name}", str(value)]
    return command


def load(gateway: Gateway, content: Path, path: str = CHAT, **options: float) -> dict[str, float]:
    """What the load generator tells. Raises Failed where it gave up or an answer was not as it should be."""
    try:
        done = subprocess.run(loadgen(gateway, content, path, **options), capture_output=True, text=True, timeout=options["s"] + 30, check=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as exc:
        raise Failed(f"the load generator gave up: {exc}") from exc
    result: dict[str, float] = json.loads(done.stdout)
    if result["errors"] or result["non2xx"]:
        raise Failed(f"{result['errors']} errors and {result['non2xx']} refusals: {result['first_error']}")
    if not result["requests"] and not result["open"]:
        raise Failed("nothing was answered")
    return result


def wait_for_answer(gateway: Gateway, process: "subprocess.Popen[bytes] | None") -> float:
    """Seconds until the first answer with the mock's content."""
    began = time.monotonic()
    content = body("chat").read_bytes()
    told = ""
    while True:
        try:
            if b"MOCKOK" in (answer := ask(gateway, content, 5)):
                return round(time.monotonic() - began, 2)
            told = answer[:200].decode(errors="replace")
        except (OSError, urllib.error.URLError) as exc:
            told = str(exc)
            with suppress(OSError, AttributeError):
                told += exc.read()[:200].decode(errors="replace") if isinstance(exc, urllib.error.HTTPError) else ""
        if time.monotonic() - began > STARTUP_LIMIT_S or (process and process.poll() is not None):
            raise Failed(f"it gave no answer: {told}; see bench/logs")
        time.sleep(0.02)
