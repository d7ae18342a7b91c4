"""`/v1/messages/batches`, in Anthropic's words: created inline, streamed to the disk and checked before it is accepted."""

import asyncio
from functools import partial
from secrets import token_hex
from typing import Annotated, Any, BinaryIO

from fastapi import FastAPI, Query, Request, Response
from msgspec.structs import replace

from batch.checking import ANTHROPIC, Checking
from batch.folder import Draft
from batch.states import Batch, Fault, Place
from contract.errors import InvalidRequest, NotFound, RequestTooLarge, UnsupportedMediaType
from gateway.app_parts import Caller
from gateway.auth import Principal
from gateway.batches.batches_api import found, own_headers
from gateway.batches.desk import Desk
from gateway.batches.files_api import content, written
from gateway.batches.rendering import US, anthropic_shown
from gateway.batches.upkeep import RESULTS, check_of, headers_of, now_us

PATH = "/v1/messages"
MAX_PAGE = 1000
DAY_S = 86_400
_ROW = {"type": "object", "required": ["custom_id", "params"], "properties": {"custom_id": {"type": "string"}, "params": {"type": "object"}}}
BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {
    "type": "object", "required": ["requests"], "properties": {"requests": {"type": "array", "items": _ROW}}}}}}}  # fmt: skip


def add_message_batches(app: FastAPI, desk: Desk) -> None:
    @app.post("/v1/messages/batches", tags=["batches"], openapi_extra=BODY)
    async def create_message_batch(request: Request, caller: Caller) -> dict[str, Any]:
        """A batch of the requests in the body."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise UnsupportedMediaType("the body must be JSON; send `content-type: application/json`")
        now, source = now_us(), token_hex(16)
        batch = Batch(
            id="msgbatch_" + token_hex(16),
            team=caller.team,
            key_id=caller.key_id,
            dialect="anthropic",
            endpoint=PATH,
            source=source,
            status="in_progress",
            window="24h",
            headers=own_headers(request),
            made_at_us=now,
            in_progress_at_us=now,
            expires_at_us=now + DAY_S * US,
        )
        with desk.disk():
            draft = await asyncio.to_thread(desk.folder.new)
            try:
                await written(request, desk.runtime.limits.body_idle_s, _Bounded(draft.file).write)
                places = await asyncio.to_thread(_checked, desk, batch, caller, draft)
                await asyncio.to_thread(draft.keep, source)
            finally:
                await asyncio.to_thread(draft.drop)
        made = replace(batch, total=len(places))
        try:
            await desk.ask(partial(desk.store.add, made, places))
        except BaseException:
            desk.folder.remove(source)
            raise
        desk.executor.look()
        return anthropic_shown(made)

    _add_reading(app, desk)
    _add_ending(app, desk)


def _add_reading(app: FastAPI, desk: Desk) -> None:
    @app.get("/v1/messages/batches", tags=["batches"])
    async def list_message_batches(
        caller: Caller, after_id: str | None = None, before_id: str | None = None, limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 20
    ) -> dict[str, Any]:
        """The team's batches of messages, the newest first."""
        rows = await desk.ask(lambda: desk.store.page(caller.team, "anthropic", after_id, before_id, limit + 1))
        more = len(rows) > limit
        rows = rows[1:] if more and before_id is not None and after_id is None else rows[:limit]
        page = [anthropic_shown(batch) for batch in rows]
        return {"data": page, "has_more": more, "first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}

    @app.get("/v1/messages/batches/{batch_id}", tags=["batches"])
    async def get_message_batch(batch_id: str, caller: Caller) -> dict[str, Any]:
        """One batch of messages of the team."""
        batch = await found(desk, caller.team, batch_id, "anthropic")
        return anthropic_shown(batch, await desk.ask(partial(desk.store.targets, batch.id)))

    @app.get("/v1/messages/batches/{batch_id}/results", tags=["batches"])
    async def get_message_batch_results(batch_id: str, caller: Caller) -> Response:
        """One line a request, in any order."""
        batch = await found(desk, caller.team, batch_id, "anthropic")
        gone = NotFound("the batch has no results yet", code="results_not_found")
        if batch.output_file is None:
            raise gone
        return await content(desk, batch.id + RESULTS, "application/x-jsonl", gone)


def _add_ending(app: FastAPI, desk: Desk) -> None:
    @app.post("/v1/messages/batches/{batch_id}/cancel", tags=["batches"])
    async def cancel_message_batch(batch_id: str, caller: Caller) -> dict[str, Any]:
        """Stops it at once; its results are there when it has ended. One that has ended stays as it is."""
        batch = await found(desk, caller.team, batch_id, "anthropic")
        stopped = await desk.ask(partial(desk.store.cancel, caller.team, batch.id, now_us()))
        desk.executor.look()
        return anthropic_shown(stopped or batch)

    @app.delete("/v1/messages/batches/{batch_id}", tags=["batches"])
    async def delete_message_batch(batch_id: str, caller: Caller) -> dict[str, Any]:
        """Deletes a batch that has ended, with its results."""
        batch = await found(desk, caller.team, batch_id, "anthropic")
        if not batch.ended:
            raise InvalidRequest("the batch has not ended; cancel it first", code="batch_in_progress")
        await desk.ask(partial(desk.executor.upkeep.drop, caller.team, [batch.id]))
        return {"id": batch.id, "type": "message_batch_deleted"}


class _Bounded:
    """A file that takes as much as a batch may have."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = ANTHROPIC.size

    def write(self, data: bytes) -> None:
        """Raises RequestTooLarge."""
        self._left -= len(data)
        if self._left < 0:
            raise RequestTooLarge(f"the batch is larger than the {ANTHROPIC.size} bytes that this gateway takes")
        self._file.write(data)


def _checked(desk: Desk, batch: Batch, caller: Principal, draft: Draft) -> list[Place]:
    """Where its rows stand. Raises InvalidRequest that says what is wrong with which."""
    checking = Checking("anthropic", PATH, check_of(desk.runtime, PATH, caller, headers_of(batch)), ANTHROPIC)
    draft.file.seek(0)
    places = [place for group in checking.places(draft.file) for place in group]
    if checking.faults:
        first = checking.faults[0]
        more = f" (and {len(checking.faults) - 1} more faults)" if len(checking.faults) > 1 else ""
        raise InvalidRequest(f"{_where(first)}{first.message}{more}", code=first.code)
    return places


def _where(fault: Fault) -> str:
    if fault.line is None:
        return ""
    field = "" if fault.param is None else ".custom_id" if fault.param == "custom_id" else f".params.{fault.param}"
    return f"requests.{fault.line - 1}{field}: "
