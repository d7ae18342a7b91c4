"""A gateway's files and batches as the command line asks for them, over HTTP; and a batch's progress, from one look to the next."""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from secrets import token_hex
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

import msgspec

CHUNK = 1 << 16
WINDOW = 60  # looks that a rate is of
ENDED = frozenset({"completed", "failed", "expired", "cancelled", "ended"})
TIMEOUT_S = 120.0
AWAY_S, AGAIN_S = 120.0, 0.5  # how long a gateway that was there may be away, and the pause until it is asked again


class CannotAsk(Exception):
    """The gateway does not answer, or refuses; the message says why."""


class NoAnswer(CannotAsk):
    """Nobody is there just now."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a batch. Money in US dollars. `unpriced`: rows whose cost is not known. `errors`: what is wrong with its file.

    `plan`: where its rows were to run when that was decided last; None: it was not decided yet.
    """

    id: str
    status: str
    total: int
    rows: dict[str, int]
    input_tokens: int
    output_tokens: int
    cost_usd: float
    unpriced: int
    targets: dict[str, int]
    files: dict[str, str]
    errors: list[dict[str, Any]] = []
    plan: dict[str, Any] | None = None

    @property
    def done(self) -> int:
        return sum(self.rows.values())

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class GatewayClient:
    """`url`: without `/v1`."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        self._key = key
        self._opener = build_opener()

    def submit(self, file: Path, endpoint: str, window: str) -> str:
        """The id of a batch of the rows in the file. Raises CannotAsk."""
        uploaded = self._upload(file)
        return str(self._json("POST", "/v1/batches", {"input_file_id": uploaded, "endpoint": endpoint, "completion_window": window})["id"])

    def progress(self, id: str) -> Progress:
        """Raises CannotAsk."""
        return progress_of(self._json("GET", _path(id)))

    def batches(self, limit: int) -> list[Progress]:
        """The newest, of either form. Raises CannotAsk."""
        openai = self._json("GET", f"/v1/batches?limit={limit}")["data"]
        anthropic = self._json("GET", f"/v1/messages/batches?limit={limit}")["data"]
        made = {told["id"]: float(told["created_at"]) for told in openai}
        made |= {told["id"]: datetime.fromisoformat(told["created_at"]).timestamp() for told in anthropic}
        newest = sorted([*openai, *anthropic], key=lambda told: made[told["id"]], reverse=True)
        return [progress_of(told) for told in newest[:limit]]

    def cancel(self, id: str) -> Progress:
        """Raises CannotAsk."""
        return progress_of(self._json("POST", f"{_path(id)}/cancel"))

    def download(self, path: str, to: Path) -> int:
        """A file of a batch to the disk, whole or not at all: its bytes. Raises CannotAsk, OSError."""
        making, size = to.with_name(to.name + ".part"), 0
        with self._open("GET", path) as answer, making.open("wb") as out:
            while piece := answer.read(CHUNK):
                size += out.write(piece)
        making.rename(to)
        return size

    def _upload(self, file: Path) -> str:
        boundary = token_hex(16)
        name = file.name.replace('"', "_")
        head = (
            f'--{boundary}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n'
            "content-type: application/jsonl\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()

        def parts() -> Iterator[bytes]:
            yield head
            with file.open("rb") as data:
                while piece := data.read(CHUNK):
                    yield piece
            yield tail

        length = len(head) + file.stat().st_size + len(tail)
        headers = {"content-type": f"multipart/form-data; boundary={boundary}", "content-length": str(length)}
        with self._open("POST", "/v1/files", parts(), headers) as answer:
            return str(json.load(answer)["id"])

    def _json(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        with self._open(method, path, data, {"content-type": "application/json"}) as answer:
            return cast("dict[str, Any]", json.load(answer))

    def _open(self, method: str, path: str, data: Any = None, headers: dict[str, str] | None = None) -> HTTPResponse:
        asked = Request(self._url + path, data, {"authorization": f"Bearer {self._key}", **(headers or {})}, method=method)
        try:
            return cast("HTTPResponse", self._opener.open(asked, timeout=TIMEOUT_S))
        except HTTPError as exc:
            raise CannotAsk(_refusal(exc)) from exc
        except (URLError, HTTPException, OSError, ValueError) as exc:
            raise NoAnswer(f"the gateway at {self._url} does not answer: {getattr(exc, 'reason', exc)}") from exc


def _path(id: str) -> str:
    return f"/v1/messages/batches/{id}" if id.startswith("msgbatch_") else f"/v1/batches/{id}"


def _refusal(exc: HTTPError) -> str:
    try:
        return str(json.load(exc)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the gateway answered {exc.code}"


def progress_of(told: dict[str, Any]) -> Progress:
    """From either API's object."""
    own, counts = told["turnout"], told["request_counts"]
    anthropic = told.get("type") == "message_batch"
    if anthropic:
        files = {"results": told["results_url"]} if told["results_url"] else {}
    else:
        files = {kind: f"/v1/files/{told[f'{kind}_file_id']}/content" for kind in ("output", "error") if told[f"{kind}_file_id"]}
    return Progress(
        id=told["id"],
        status=told["processing_status"] if anthropic else told["status"],
        total=sum(counts.values()) if anthropic else counts["total"],
        rows=own["rows"],
        input_tokens=own["tokens"]["input"],
        output_tokens=own["tokens"]["output"],
        cost_usd=own["cost_usd"],
        unpriced=own["unpriced_rows"],
        targets=own.get("targets", {}),
        files=files,
        errors=[] if anthropic or told["errors"] is None else told["errors"]["data"],
        plan=own.get("plan"),
    )


class Pace(msgspec.Struct, frozen=True):
    """None: not known yet. `projected_usd`: what the whole batch will have cost, if the rest costs what the rows so far did."""

    rows_per_s: float | None
    tokens_per_s: float | None
    eta_s: float | None
    projected_usd: float | None


class Watching:
    """Looks at one batch through a gateway that is away for a while, as one that is started anew is. `told`: hears once that it is."""

    def __init__(self, gateway: GatewayClient, id: str, told: Callable[[str], None]) -> None:
        self._gateway = gateway
        self._id = id
        self._told = told
        self._seen = False

    def look(self) -> Progress:
        """Raises CannotAsk: at once when nothing was ever seen, else after `AWAY_S` without an answer."""
        until: float | None = None
        while True:
            try:
                progress = self._gateway.progress(self._id)
            except NoAnswer as exc:
                if not self._seen or (until is not None and time.monotonic() > until):
                    raise
                if until is None:
                    until = time.monotonic() + AWAY_S
                    self._told(f"{exc}; looking again for {AWAY_S:.0f} s")
                time.sleep(AGAIN_S)
            else:
                self._seen = True
                return progress


class Looks:
    """The looks of a while."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Progress]] = deque(maxlen=WINDOW)

    def add(self, at_s: float, progress: Progress) -> Pace:
        """`at_s`: of a clock that only goes on."""
        self._seen.append((at_s, progress))
        first_at, first = self._seen[0]
        passed_s, done = at_s - first_at, progress.done - first.done
        rate = done / passed_s if passed_s > 0 and done > 0 else None
        tokens = progress.output_tokens - first.output_tokens
        return Pace(
            rows_per_s=rate,
            tokens_per_s=tokens / passed_s if passed_s > 0 and tokens > 0 else None,
            eta_s=None if rate is None else (progress.total - progress.done) / rate,
            projected_usd=progress.cost_usd / progress.done * progress.total if progress.done and not progress.unpriced else None,
        )
