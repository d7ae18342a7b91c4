"""`/v1/files`: uploads streamed to the disk, and what batches make."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from secrets import token_hex
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.requests import ClientDisconnect

from batch.checking import OPENAI
from batch.folder import Draft
from batch.states import File
from contract.errors import ClientClosed, InvalidRequest, NotFound, RequestTimeout
from gateway.app_parts import Caller
from gateway.batches.desk import Desk
from gateway.batches.form import Form
from gateway.batches.rendering import US, file_shown
from gateway.batches.upkeep import now_us

AT_ONCE = 1 << 18  # bytes that are handed to the disk together
LEAST_LIFE_S, MOST_LIFE_S = 3600, 2_592_000  # as in OpenAI's API
MAX_NAME = 500
_FIELDS = {"file": {"type": "string", "format": "binary"}, "purpose": {"const": "batch"}}
_EXPIRY = {f"expires_after[{name}]": {"type": "string"} for name in ("anchor", "seconds")}
FORM = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {
    "type": "object", "required": [*_FIELDS], "properties": {**_FIELDS, **_EXPIRY}}}}}}  # fmt: skip
MAX_PAGE = 10_000


def add_files(app: FastAPI, desk: Desk) -> None:
    @app.post("/v1/files", tags=["files"], openapi_extra=FORM)
    async def upload_file(request: Request, caller: Caller) -> dict[str, Any]:
        """Takes a file of rows for a batch: a form with `file` and `purpose=batch`."""
        with desk.disk():
            draft = await asyncio.to_thread(desk.folder.new)
            try:
                form = await _received(request, draft, desk)
                file = _file_of(form, caller.team, desk.executor.upkeep.expiry(now_us()))
                await asyncio.to_thread(draft.keep, file.id)
            finally:
                await asyncio.to_thread(draft.drop)
        try:
            await desk.ask(partial(desk.store.add_file, file))
        except BaseException:
            desk.folder.remove(file.id)
            raise
        return file_shown(file)

    @app.get("/v1/files", tags=["files"])
    async def list_files(
        caller: Caller,
        purpose: str | None = None,
        after: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
    ) -> dict[str, Any]:
        """The team's files."""
        found = await desk.ask(lambda: desk.store.files(caller.team, now_us(), purpose, after, order == "desc", limit + 1))
        page = [file_shown(file) for file in found[:limit]]
        ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
        return {"object": "list", "data": page, "has_more": len(found) > limit, **ends}

    @app.get("/v1/files/{file_id}", tags=["files"])
    async def get_file(file_id: str, caller: Caller) -> dict[str, Any]:
        """One file of the team."""
        return file_shown(await _found(desk, caller.team, file_id))

    @app.get("/v1/files/{file_id}/content", tags=["files"])
    async def get_file_content(file_id: str, caller: Caller) -> Response:
        """What is in it."""
        file = await _found(desk, caller.team, file_id)
        return await content(desk, file.id, "application/octet-stream", missing(file_id))

    @app.delete("/v1/files/{file_id}", tags=["files"])
    async def delete_file(file_id: str, caller: Caller) -> dict[str, Any]:
        """Deletes a file, unless a batch that has not ended reads it."""
        file = await _found(desk, caller.team, file_id)
        if await desk.ask(partial(desk.store.reads, file.id)):
            raise InvalidRequest("a batch that has not ended reads this file; cancel it first", param="file_id", code="file_in_use")
        await desk.ask(partial(desk.store.drop_file, caller.team, file.id))
        await asyncio.to_thread(desk.folder.remove, file.id)
        return {"id": file.id, "object": "file", "deleted": True}


async def content(desk: Desk, name: str, media_type: str, gone: NotFound) -> Response:
    """A file of the folder as an answer. Raises `gone` where it is not there."""
    if not await asyncio.to_thread(desk.folder.has, name):
        raise gone
    return FileResponse(desk.folder.path(name), media_type=media_type)


def missing(file_id: str) -> NotFound:
    return NotFound(f"there is no file {file_id[:80]!r} of this team", param="file_id", code="file_not_found")


async def _found(desk: Desk, team: str, file_id: str) -> File:
    """Raises NotFound, also for a file of another team."""
    file = await desk.ask(lambda: desk.store.file(team, file_id, now_us()))
    if file is None:
        raise missing(file_id)
    return file


async def pieces(request: Request, idle_s: float) -> AsyncIterator[bytes]:
    """A body as it comes, some of it at once. Raises RequestTimeout, ClientClosed."""
    gathered = bytearray()
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(idle_s):
                piece = await anext(stream, None)
        except TimeoutError:
            raise RequestTimeout(f"no byte of the request's body came for {idle_s:g} s") from None
        except ClientDisconnect:
            raise ClientClosed("the client left before its request was whole") from None
        if piece is None:
            break
        gathered += piece
        if len(gathered) >= AT_ONCE:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)


async def written(request: Request, idle_s: float, take: Callable[[bytes], object]) -> None:
    """A body to wherever it goes, off the event loop."""
    async for piece in pieces(request, idle_s):
        await asyncio.to_thread(take, piece)


async def _received(request: Request, draft: Draft, desk: Desk) -> Form:
    form = Form(request.headers.get("content-type", ""), draft.file, OPENAI.size)
    await written(request, desk.runtime.limits.body_idle_s, form.feed)
    form.end()
    return form


def _file_of(form: Form, team: str, expires_at_us: int | None) -> File:
    """Raises InvalidRequest for a form that lacks something."""
    if form.filename is None:
        raise InvalidRequest("the form's field `file` is missing", param="file")
    if form.fields.get("purpose") != "batch":
        raise InvalidRequest("`purpose` must be `batch`: files serve nothing else here", param="purpose")
    now = now_us()
    seconds = form.fields.get("expires_after[seconds]")
    if seconds is not None or "expires_after[anchor]" in form.fields:
        expires_at_us = now + life_s(form.fields.get("expires_after[anchor]"), seconds, "expires_after") * US
    return File("file-" + token_hex(12), team, "batch", form.filename[:MAX_NAME], form.size, now, expires_at_us)


def life_s(anchor: object, seconds: object, param: str) -> int:
    """How long a file is to live. Raises InvalidRequest."""
    if anchor != "created_at":
        raise InvalidRequest(f"`{param}.anchor` must be `created_at`", param=f"{param}.anchor")
    told = str(seconds)
    if not (told.isdigit() and len(told) < 10 and LEAST_LIFE_S <= int(told) <= MOST_LIFE_S):
        raise InvalidRequest(f"`{param}.seconds` must be from {LEAST_LIFE_S} to {MOST_LIFE_S}", param=f"{param}.seconds")
    return int(told)
