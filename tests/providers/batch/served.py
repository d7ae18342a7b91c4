"""What the loopback batch servers share: a life cycle that moves on by one state each time the job is asked for, and rows with fates.

A test scripts it: how the jobs end, what becomes of single rows, what polls and downloads are answered with before the truth.
"""

import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import time
from typing import Any, ClassVar, Literal

from tests.gateway.upstream import Exchange, Upstream

Ending = Literal["completed", "expired", "cancelled", "failed"]
Fate = Literal["ok", "refused", "overloaded", "expired", "cancelled", "missing"]
Route = tuple[str, str, Callable[[Exchange, str], Awaitable[None]]]


@dataclass
class ServedJob:
    """`told`: what its creator gave; `step`: how far it is in `ServedBatches.WAY`."""

    id: str
    rows: list[dict[str, Any]]
    told: dict[str, Any]
    created: float = field(default_factory=time)
    step: int = 0
    ending: Ending | None = None
    cancelling: bool = False


class ServedBatches:
    """A provider's batch API on loopback.

    `ending`: how jobs end. `done`: of a job that expires or is cancelled, how many rows were answered first. `fates`: of single rows, by id.
    `faults`: statuses and headers that the next polls are answered with. `cuts`: how many downloads are cut in the middle.
    `refused`: API keys that nothing is done for, and with what status. `lost_replies`: how many jobs are made whose creator never hears of it.
    """

    WAY: ClassVar[tuple[str, ...]] = ("validating", "running", "finalizing")

    def __init__(self) -> None:
        self.upstream = Upstream()
        self.upstream.default = self._handle
        self.jobs: dict[str, ServedJob] = {}
        self.files: dict[str, tuple[str, bytes]] = {}
        self.ending: Ending = "completed"
        self.done = 0
        self.fates: dict[str, Fate] = {}
        self.faults: list[tuple[int, dict[str, str]]] = []
        self.cuts = 0
        self.lost_replies = 0
        self.refused: dict[str, int] = {}
        self.shuffle = random.Random(7)
        self._count = 0

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.upstream.port}"

    def routes(self) -> list[Route]:
        raise NotImplementedError

    def error(self, status: int) -> dict[str, Any]:
        raise NotImplementedError

    def name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._count:04d}"

    async def _handle(self, x: Exchange) -> None:
        status = self.refused.get(x.seen.head.get("authorization", "").removeprefix("Bearer "))
        if status is not None:
            await self.json(x, self.error(status), status)
            return
        path = x.seen.head[":path"].partition("?")[0]
        for method, prefix, play in self.routes():
            before, star, after = prefix.partition("*")
            if x.seen.head[":method"] != method or not path.startswith(before) or not path.endswith(after):
                continue
            middle = path[len(before) : len(path) - len(after)]
            if (star and middle and "/" not in middle) or (not star and path == prefix):
                await play(x, middle)
                return
        await self.json(x, self.error(404), 404)

    async def json(self, x: Exchange, body: object, status: int = 200) -> None:
        await x.respond(status, json.dumps(body).encode())

    async def created(self, x: Exchange, job: ServedJob, body: object, status: int = 200) -> None:
        """Answers its creator, who may be gone."""
        self.jobs[job.id] = job
        if self.lost_replies:
            self.lost_replies -= 1
            x.reset()
            return
        await self.json(x, body, status)

    async def polled(self, x: Exchange, id_: str) -> ServedJob | None:
        """The job that is asked for, one step further; None: the question was answered otherwise."""
        job = self.jobs.get(id_)
        if job is None:
            await self.json(x, self.error(404), 404)
            return None
        if self.faults:
            status, headers = self.faults.pop(0)
            await x.respond(status, json.dumps(self.error(status)).encode(), **headers)
            return None
        self.advance(job)
        return job

    def advance(self, job: ServedJob) -> None:
        if job.ending is not None:
            return
        if job.cancelling:
            job.ending = "cancelled"
            return
        job.step += 1
        if job.step >= len(self.WAY) or (self.ending == "failed" and job.step):
            job.ending = self.ending

    def word(self, job: ServedJob) -> str:
        """Its state in words of our own."""
        if job.ending is not None:
            return job.ending
        return "cancelling" if job.cancelling else self.WAY[job.step]

    async def cancelled(self, x: Exchange, id_: str) -> ServedJob | None:
        """A request to cancel; refused where it is too late."""
        job = self.jobs.get(id_)
        if job is None or job.ending is not None:
            status = 404 if job is None else 409
            await self.json(x, self.error(status), status)
            return None
        job.cancelling = True
        return job

    def fate(self, job: ServedJob, number: int, id_: str) -> Fate:
        if id_ in self.fates:
            return self.fates[id_]
        if job.ending in ("expired", "cancelled") and number >= self.done:
            return "expired" if job.ending == "expired" else "cancelled"
        return "ok"

    def fated(self, job: ServedJob, id_field: str) -> list[tuple[str, dict[str, Any], Fate]]:
        """Every row with its id and fate, in an order of nobody's."""
        rows = [(row[id_field], row, self.fate(job, number, row[id_field])) for number, row in enumerate(job.rows)]
        self.shuffle.shuffle(rows)
        return [row for row in rows if row[2] != "missing"]

    async def download(self, x: Exchange, lines: list[dict[str, Any]]) -> None:
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        if self.cuts:
            self.cuts -= 1
            await x.send(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/jsonl\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body[: len(body) * 2 // 3])
            )
            x.reset()
            return
        await x.respond(200, body, "application/jsonl")


def rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def text_of(content: Any) -> str:
    """The text of a message's content, a string or parts."""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """A chat completion that answers its last message."""
    return {
        "id": "chatcmpl-b",
        "object": "chat.completion",
        "created": 1,
        "model": body.get("model", "m"),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": f"answer to {text_of(body['messages'][-1]['content'])}"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
    }


def form_parts(raw: bytes, content_type: str) -> dict[str, tuple[str, bytes]]:
    """The fields of a form: name -> file name and value."""
    boundary = content_type.partition("boundary=")[2].strip('"').encode()
    parts: dict[str, tuple[str, bytes]] = {}
    for piece in raw.split(b"--" + boundary)[1:-1]:
        head, _, value = piece.partition(b"\r\n\r\n")
        text = head.decode().replace("Content-Disposition", "content-disposition")
        line = next(line for line in text.split("\r\n") if line.lower().startswith("content-disposition"))
        fields = dict(item.strip().split("=", 1) for item in line.split(";")[1:])
        parts[fields["name"].strip('"')] = (fields.get("filename", "").strip('"'), value.removesuffix(b"\r\n"))
    return parts
