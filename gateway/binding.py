"""Requests that carry state of an earlier answer: which target understands it, and the history that we keep for those that keep none.

Which requests may carry any, the form of their endpoint says (gateway/peek.py).
"""

import re

import msgspec

from contract.call import Call
from contract.errors import InvalidRequest
from gateway.routes import Route, Target
from ledger.continuity import Continuity
from providers.wires.openai_responses.history import with_history
from providers.wires.seal import unseal

_TOKEN = re.compile(
    rb'"(?:signature|encrypted_content|thought_signature|reasoning_signature|file_id|conversation|container|data)"\s*:\s*"([^"\\]{1,200000})"'
)
_string = msgspec.json.Decoder(str)
MAX_TOKENS = 50  # looked up for one request, the newest first


class Bound(msgspec.Struct, frozen=True):
    """The call to go on with, and the label of the only target that may answer it; None: any may."""

    call: Call
    target: str | None = None


async def resolve(call: Call, team: str, route: Route, continuity: Continuity) -> Bound:
    """Raises InvalidRequest for a `previous_response_id` that nobody here knows."""
    if not call.may_hold_state or call.dialect == "anthropic_count_tokens":
        return Bound(call)
    previous = _previous(call)
    if previous is not None:
        kept = await continuity.answer(team, previous)
        if kept is None:
            return Bound(call, await _keeper(team, previous, route, continuity))
        call = _with_history(call, with_history(call.body, kept.input, kept.answer))
    return Bound(call, await _owner(call, team, route, continuity))


def _previous(call: Call) -> str | None:
    raw = call.fields.get("previous_response_id") if call.dialect == "openai_responses" else None
    return None if raw is None or bytes(raw) == b"null" else _string.decode(raw)


def _with_history(call: Call, body: bytes) -> Call:
    return msgspec.structs.replace(call, body=body, fields=msgspec.json.decode(body, type=dict[str, msgspec.Raw]))


async def _keeper(team: str, previous: str, route: Route, continuity: Continuity) -> str:
    """The target that keeps an answer that we do not: the one it came from, or the first that keeps any."""
    label = await continuity.target_of(team, previous)
    keepers = [target.label for target in route.targets if target.keeps_responses]
    if label in keepers:
        return label
    if label is None and keepers:
        return keepers[0]
    where = "by another model's target" if label is not None else "here"
    raise InvalidRequest(
        f"there is no response {previous[:80]!r} kept {where}; send the conversation's items as `input`",
        param="previous_response_id",
        code="previous_response_not_found",
    )


async def _owner(call: Call, team: str, route: Route, continuity: Continuity) -> str | None:
    """The target that made the newest state in the request. State that nobody here has seen can only be the dialect's own."""
    tokens = [match[1].decode("utf-8", "replace") for match in _TOKEN.finditer(call.body)][-MAX_TOKENS:]
    labels = {target.label for target in route.targets}
    unknown = False
    for token in reversed(tokens):
        sealed = unseal(token)
        if sealed is not None and not sealed.signature:
            continue  # it says whose words those are; they bind nobody
        label = sealed.target if sealed is not None else await continuity.target_of(team, token)
        if label in labels:
            return label
        unknown = unknown or label is None
    return _first_native(call, route.targets) if unknown else None


def _first_native(call: Call, targets: tuple[Target, ...]) -> str | None:
    return next((target.label for target in targets if call.dialect in target.native), None)
