"""`/v1/responses/{id}`: answers that we keep, and those that a provider keeps for us, fetched, listed, cancelled and deleted."""

from typing import Any
from urllib.parse import quote

import msgspec
from fastapi import FastAPI, Request, Response

from contract.errors import NotFound, UnsupportedField, UpstreamModelNotFound
from gateway.app_parts import Caller
from gateway.auth import Principal
from gateway.runtime import Runtime
from ledger.continuity import KeptAnswer
from providers.backend import HttpBackend

MAX_LIMIT = 100
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(list[msgspec.Raw])


def add_responses(app: FastAPI, runtime: Runtime) -> None:
    """Adds the routes to the app."""

    @app.get("/v1/responses/{response_id}", tags=["responses"])
    async def get_response(response_id: str, caller: Caller, request: Request, stream: bool = False) -> Response:
        """One answer of the caller's team. A stream cannot be taken up again."""
        if stream:
            raise UnsupportedField("a response that was made is given whole: leave `stream` out", param="stream")
        kept = await runtime.continuity.answer(caller.team, response_id)
        if kept is not None:
            return _json(kept.answer)
        return await _at_provider(runtime, caller, response_id, "GET", query=request.url.query)

    @app.get("/v1/responses/{response_id}/input_items", tags=["responses"])
    async def list_input_items(
        response_id: str, caller: Caller, request: Request, limit: int = 20, order: str = "desc", after: str | None = None
    ) -> Response:
        """The items that the answer was made from, the newest first unless `order` is asc."""
        kept = await runtime.continuity.answer(caller.team, response_id)
        if kept is None:
            return await _at_provider(runtime, caller, response_id, "GET", "/input_items", request.url.query)
        return _json(msgspec.json.encode(_page(kept, limit, order, after)))

    @app.post("/v1/responses/{response_id}/cancel", tags=["responses"])
    async def cancel_response(response_id: str, caller: Caller) -> Response:
        """Cancels a background response at the provider that makes it; one that is whole stays as it is."""
        kept = await runtime.continuity.answer(caller.team, response_id)
        return _json(kept.answer) if kept is not None else await _at_provider(runtime, caller, response_id, "POST", "/cancel")

    @app.delete("/v1/responses/{response_id}", tags=["responses"])
    async def delete_response(response_id: str, caller: Caller) -> Response:
        """Deletes an answer of the caller's team, wherever it is kept."""
        if await runtime.continuity.forget(caller.team, response_id):
            return _json(msgspec.json.encode({"id": response_id, "object": "response", "deleted": True}))
        return await _at_provider(runtime, caller, response_id, "DELETE")


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _page(kept: KeptAnswer, limit: int, order: str, after: str | None) -> dict[str, Any]:
    items = _items.decode(kept.input)
    names = [_name(item, index) for index, item in enumerate(items)]
    rows = list(zip(names, items, strict=True))
    if order != "asc":
        rows.reverse()
    start = next((at + 1 for at, (name, _) in enumerate(rows) if name == after), 0) if after else 0
    page = rows[start : start + max(1, min(limit, MAX_LIMIT))]
    data = [{**_members.decode(item), "id": name} for name, item in page]
    return {
        "object": "list",
        "data": data,
        "first_id": page[0][0] if page else None,
        "last_id": page[-1][0] if page else None,
        "has_more": start + len(page) < len(rows),
    }


def _name(item: msgspec.Raw, index: int) -> str:
    given = _members.decode(item).get("id")
    return msgspec.json.decode(given, type=str) if given is not None else f"item_{index}"


async def _at_provider(runtime: Runtime, caller: Principal, response_id: str, method: str, suffix: str = "", query: str = "") -> Response:
    """Asks the provider that the answer came from. Raises NotFound for an answer that is none of this team's, or that is there no more."""
    label = await runtime.continuity.target_of(caller.team, response_id)
    backend = next((b for b in runtime.backends if label is not None and label.startswith(f"{b.name}/") and isinstance(b, HttpBackend)), None)
    missing = NotFound(f"there is no response {response_id[:80]!r} of this team", param="response_id", code="response_not_found")
    if backend is None:
        raise missing
    try:
        return _json(await backend.manage(method, "openai_responses", f"/{quote(response_id, safe='')}{suffix}{query and '?' + query}"))
    except UpstreamModelNotFound as error:
        raise missing from error
