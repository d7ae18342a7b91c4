"""`/v1/batches`, in OpenAI's words."""

from functools import partial
from secrets import token_hex
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from batch.states import Batch
from contract.errors import InvalidRequest, NotFound
from gateway.app_parts import Caller
from gateway.batches.desk import Desk
from gateway.batches.files_api import life_s
from gateway.batches.rendering import US, openai_shown, window_s
from gateway.batches.upkeep import now_us

ENDPOINTS = ("/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/embeddings")
MAX_PAGE = 100
MAX_METADATA = 16
KEPT = ("x-turnout-", "anthropic-beta", "anthropic-version")  # what such names begin with


def _storable(text: str) -> str:
    """JSON may hold halves of a character."""
    text.encode()  # raises UnicodeEncodeError, which is a ValueError
    return text


Text = Annotated[str, AfterValidator(_storable)]
Key = Annotated[Text, Field(max_length=64)]
Value = Annotated[Text, Field(max_length=512)]


class OutputExpiresAfter(BaseModel):
    model_config = ConfigDict(extra="forbid")

    anchor: str
    seconds: int


class NewBatch(BaseModel):
    """What OpenAI's API takes; a window of other lengths than a day, too."""

    model_config = ConfigDict(extra="forbid")

    input_file_id: Text
    endpoint: Text
    completion_window: Text = "24h"
    metadata: Annotated[dict[Key, Value], Field(max_length=MAX_METADATA)] | None = None
    output_expires_after: OutputExpiresAfter | None = None


def add_batches(app: FastAPI, desk: Desk) -> None:
    @app.post("/v1/batches", tags=["batches"])
    async def create_batch(new: NewBatch, request: Request, caller: Caller) -> dict[str, Any]:
        """A batch of the rows in an uploaded file. It begins once every row has been checked; `errors` says what is wrong with which line."""
        now, window = now_us(), window_s(new.completion_window)
        if new.endpoint not in ENDPOINTS:
            raise InvalidRequest(f"`endpoint` must be one of {', '.join(ENDPOINTS)}", param="endpoint")
        after = new.output_expires_after
        output_expires_s = None if after is None else life_s(after.anchor, after.seconds, "output_expires_after")
        file = await desk.ask(lambda: desk.store.file(caller.team, new.input_file_id, now))
        if file is None or file.purpose != "batch":
            raise InvalidRequest(f"there is no file {new.input_file_id[:80]!r} of this team", param="input_file_id", code="file_not_found")
        batch = Batch(
            id="batch_" + token_hex(16),
            team=caller.team,
            key_id=caller.key_id,
            dialect="openai",
            endpoint=new.endpoint,
            source=file.id,
            status="validating",
            window=new.completion_window,
            headers=own_headers(request),
            metadata=None if new.metadata is None else msgspec.json.encode(new.metadata).decode(),
            output_expires_s=output_expires_s,
            made_at_us=now,
            expires_at_us=now + window * US,
        )
        await desk.ask(partial(desk.store.add, batch))
        desk.executor.look()
        return openai_shown(batch)

    @app.get("/v1/batches", tags=["batches"])
    async def list_batches(caller: Caller, after: str | None = None, limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 20) -> dict[str, Any]:
        """The team's batches, the newest first."""
        found = await desk.ask(lambda: desk.store.page(caller.team, "openai", after, None, limit + 1))
        page = [openai_shown(batch) for batch in found[:limit]]
        ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
        return {"object": "list", "data": page, "has_more": len(found) > limit, **ends}

    @app.get("/v1/batches/{batch_id}", tags=["batches"])
    async def get_batch(batch_id: str, caller: Caller) -> dict[str, Any]:
        """One batch of the team, and how far it is."""
        batch = await found(desk, caller.team, batch_id, "openai")
        return openai_shown(batch, await desk.ask(partial(desk.store.targets, batch.id)))

    @app.post("/v1/batches/{batch_id}/cancel", tags=["batches"])
    async def cancel_batch(batch_id: str, caller: Caller) -> dict[str, Any]:
        """Stops it at once: what was answered stays, and is in its files when it is `cancelled`. One that has ended stays as it is."""
        batch = await found(desk, caller.team, batch_id, "openai")
        stopped = await desk.ask(partial(desk.store.cancel, caller.team, batch.id, now_us()))
        desk.executor.look()
        return openai_shown(stopped or batch)


def own_headers(request: Request) -> str:
    """What of the creating request's headers its rows are asked with."""
    kept = [
        (name, value) for name, value in request.headers.items() if name.startswith("x-turnout-") or name in ("anthropic-beta", "anthropic-version")
    ]
    return msgspec.json.encode(kept).decode()


async def found(desk: Desk, team: str, batch_id: str, dialect: str) -> Batch:
    """Raises NotFound, also for a batch of another team, or of the other API."""
    batch = await desk.ask(partial(desk.store.get, team, batch_id))
    if batch is None or batch.dialect != dialect:
        raise NotFound(f"there is no batch {batch_id[:80]!r} of this team", param="batch_id", code="batch_not_found")
    return batch
