"""Answers for questions that mean the same: what a request's question is, its embedding, and who may have whose answer.

The embedding is an ordinary request of the team's own: attempted, priced and in the ledger, but never itself looked up. When it cannot be had in
EMBED_S, or not be paid for, the question is like no other.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from time import monotonic
from typing import Any, NamedTuple

import msgspec

from cache.flight import Tape
from cache.key import key_of
from cache.port import Entry, Kept
from cache.semantic import Likenesses
from config.tenancy import SemanticSettings
from contract.call import Call
from contract.errors import TurnoutError
from gateway.endpoints import ENDPOINTS
from gateway.identity import new_request_id
from gateway.job import Job
from gateway.kept.cacheable import asked
from gateway.metering.admission import Admission
from gateway.routes import Route

EMBED_S = 2.0
MAX_QUESTION = 2000  # characters; what is longer is no question but a text
_MEMBERS = {"openai_chat": "messages", "anthropic_messages": "messages", "openai_responses": "input"}
_TEXTS = frozenset({"text", "input_text"})
_turns = msgspec.json.Decoder(str | list[Any])

Run = Callable[[Job], Awaitable[None]]


class _Vector(msgspec.Struct):
    embedding: list[float]


class _Embedded(msgspec.Struct):
    data: list[_Vector]


class Question(NamedTuple):
    """`context`: a digest of all else that was asked, and by whom. `found`: an answer to a question that means the same."""

    context: bytes
    text: str
    vector: list[float]
    found: Kept | None


class Likeness:
    """`teams`: those that asked for it. `find`: a model's name to its route. `admission` reserves what an embedding may cost."""

    def __init__(self, teams: Mapping[str, SemanticSettings], find: Callable[[str], Route | None], memory: Likenesses, admission: Admission) -> None:
        self._teams = teams
        self._admission = admission
        self._find = find
        self._memory = memory

    def settings(self, team: str) -> SemanticSettings | None:
        return self._teams.get(team)

    async def look(self, job: Job, run: Run) -> Question | None:
        """None: there is no question in the request, or no embedding of it."""
        settings = self._teams.get(job.principal.team)
        if settings is None or (parts := question_in(job.call)) is None or (known := asked(job)) is None:
            return None
        text, fields = parts
        context = sha256(b"likeness:%b:%b" % (settings.embeddings.encode(), key_of(msgspec.structs.replace(known, fields=fields)))).digest()
        vector = await self._embedding(job, settings.embeddings, text, run)
        if vector is None:
            return None
        return Question(context, text, vector, self._memory.find(context, text, vector, settings.threshold, monotonic()))

    def keep(self, job: Job, question: Question, entry: Entry) -> None:
        settings = self._teams[job.principal.team]
        self._memory.put(question.context, question.text, question.vector, entry, monotonic() + settings.ttl_s)

    async def _embedding(self, job: Job, model: str, text: str, run: Run) -> list[float] | None:
        endpoint, route = ENDPOINTS["/v1/embeddings"], self._find(model)
        if route is None:
            return None
        body = msgspec.json.encode({"model": model, "input": text, "encoding_format": "float"})
        tape = Tape(monotonic())
        tape.left = True  # should it be given up, nobody waits for it any more
        call = endpoint.read(new_request_id(), body, [])
        own = Job(call, endpoint.name, job.principal, route, route.rule, tape, endpoint.words, granted=job.granted)
        try:
            async with asyncio.timeout(EMBED_S), self._admission.beside(own):
                await run(own)
            return msgspec.json.decode(b"".join([piece for _, piece in tape.pieces]), type=_Embedded).data[0].embedding
        except (TurnoutError, TimeoutError, msgspec.DecodeError, IndexError):
            return None
        finally:
            job.used_tokens += own.used_tokens  # they count with the request that it was made for


def question_in(call: Call) -> tuple[str, dict[str, msgspec.Raw]] | None:
    """The text that the user said last, if that is all there is of it, and the body's members without it."""
    name = _MEMBERS.get(call.dialect)
    raw = None if name is None else call.fields.get(name)
    if name is None or raw is None or bytes(raw) == b"null":
        return None
    turns = _turns.decode(raw)
    if isinstance(turns, str):
        text, rest = turns, None
    else:
        last = turns[-1] if turns else None
        if not isinstance(last, dict) or last.get("role") != "user":
            return None
        found = _text_of(last.get("content"))
        if found is None:
            return None
        text, rest = found, [*turns[:-1], {**last, "content": None}]
    if not 0 < len(text.strip()) <= MAX_QUESTION:
        return None
    return text, {**call.fields, name: msgspec.Raw(msgspec.json.encode(rest))}


def _text_of(content: Any) -> str | None:
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict) and content[0].keys() == {"type", "text"}:
        part = content[0]
        content = part["text"] if part["type"] in _TEXTS else None
    return content if isinstance(content, str) else None
