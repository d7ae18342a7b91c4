"""How a running gateway's engines stand, asked of its /health/ready; and what their start comes to while one waits for it."""

import json
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

TIMEOUT_S = 10.0
EVERY_S = 0.2


class CannotAsk(Exception):
    """The gateway does not answer; the message says why."""


def ask(url: str) -> dict[str, Any]:
    """What it tells of its readiness, ready or not. Raises CannotAsk."""
    address = f"{url.rstrip('/').removesuffix('/v1')}/health/ready"
    try:
        with build_opener().open(Request(address), timeout=TIMEOUT_S) as answer:
            return _read(answer.read(), address)
    except HTTPError as exc:  # 503: not ready
        return _read(exc.read(), address)
    except (URLError, HTTPException, OSError, ValueError) as exc:
        raise CannotAsk(f"{url} does not answer: {exc}; name the gateway with --url or TURNOUT_URL") from exc


def watched(url: str, limit_s: float, say: Callable[[str], None]) -> dict[str, Any]:
    """What it tells last, once it is ready, has given its engines up, or `limit_s` is over; each change is said meanwhile. Raises CannotAsk."""
    said: dict[str, str] = {}
    ends = time.monotonic() + limit_s
    while True:
        told = ask(url)
        for name, engine in told["engines"].items():
            words = engine["state"] if engine["stage"] is None else f"{engine['state']}: {engine['stage']}"
            if said.get(name) != words:
                said[name] = words
                say(f"{name} {words}")
        if told["status"] in ("ok", "engines") or time.monotonic() >= ends:
            return told
        time.sleep(EVERY_S)


def rows(told: dict[str, Any]) -> list[list[str]]:
    return [[name, *("" if cell is None else str(cell) for cell in engine.values())] for name, engine in told["engines"].items()]


def _read(body: bytes, address: str) -> dict[str, Any]:
    try:
        told = json.loads(body)
        if isinstance(told["engines"], dict) and isinstance(told["status"], str):
            return dict(told)
    except (ValueError, KeyError, TypeError):
        pass
    raise CannotAsk(f"{address} is no gateway's: it tells of no engines")
