"""Requests that carry state of an earlier answer: which target understands it, and the history that we keep for those that keep none.

Which requests may carry any, the form of their endpoint says (gateway/peek.py).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from contract.call import Call
from contract.errors import InvalidRequest, LedgerUnavailable
from gateway.routes import Route, Target
from ledger.continuity import Continuity
from providers.wires.openai_responses.history import with_history
from providers.wires.seal import seals_in

# members that hold an opaque state wherever they stand, and those that do so in objects of certain types
_STATES = frozenset({"encrypted_content", "thought_signature", "reasoning_signature", "file_id", "conversation", "container"})
_TYPED = {"signature": frozenset({"thinking", "reasoning.text"}), "data": frozenset({"redacted_thinking", "reasoning.encrypted"})}
_CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})  # whose `input` is the model's and the client's own
_SCHEMAS = frozenset({"parameters", "input_schema", "schema", "metadata"})
_body = msgspec.json.Decoder(dict[str, Any])
_string = msgspec.json.Decoder(str)
MAX_TOKENS = 50  # looked up for one request, the newest first


class Bound(msgspec.Struct, frozen=True):
    """The call to go on with, and the label of the only target that may answer it; None: any may."""

    call: Call
    target: str | None = None


def may_be_bound(call: Call) -> bool:
    """Whether something in it may be for one target alone."""
    return call.may_hold_state and call.dialect != "anthropic_count_tokens"


async def resolve(call: Call, team: str, route: Route, continuity: Continuity, alone: bool) -> Bound:
    """Raises InvalidRequest for a `previous_response_id` that is none of this team's, LedgerUnavailable when that cannot be known.

    `alone`: there is no other team, and an id that we have not given may be asked of the provider.
    """
    if not may_be_bound(call):
        return Bound(call)
    previous = _previous(call)
    if previous is not None:
        kept = await continuity.answer(team, previous)
        if kept is None:
            return Bound(call, await _keeper(team, previous, route, continuity, alone))
        call = msgspec.structs.replace(call, continues=previous)
        told = _with_history(call, with_history(call.body, kept.input, kept.answer, signed=True))
        owner = await _owner(told, team, route, continuity)
        return Bound(told if owner else _with_history(call, with_history(call.body, kept.input, kept.answer, signed=False)), owner)
    return Bound(call, await _owner(call, team, route, continuity))


def _previous(call: Call) -> str | None:
    raw = call.fields.get("previous_response_id") if _native_dialect(call) == "openai_responses" else None
    return None if raw is None or bytes(raw) == b"null" else _string.decode(raw)


def _with_history(call: Call, body: bytes) -> Call:
    return msgspec.structs.replace(call, body=body, fields=msgspec.json.decode(body, type=dict[str, msgspec.Raw]), names=None)


async def _keeper(team: str, previous: str, route: Route, continuity: Continuity, alone: bool) -> str:
    """The target that keeps an answer that we do not: the one it came from, or another of its provider.

    Providers keep answers by account: a conversation may go on with another of their models, and another team must not go on with it.
    """
    label = await continuity.target_of(team, previous)
    keepers = [target for target in route.targets if target.keeps_responses]
    found = _at(label, keepers) if label is not None else keepers[0].label if alone and keepers else None
    if found is not None:
        return found
    where = "by a target of this model" if label is not None else "here"
    raise InvalidRequest(
        f"there is no response {previous[:80]!r} kept {where}; send the conversation's items as `input`",
        param="previous_response_id",
        code="previous_response_not_found",
    )


async def _owner(call: Call, team: str, route: Route, continuity: Continuity) -> str | None:
    """The target that made the newest state in the request. State that nobody here has seen can only be the dialect's own.

    A seal without a signature only says who made what it marks; anybody may read it.
    """
    unknown = False
    listed = tuple(target for target in route.targets if not target.spare)  # not every rule may use the others
    several = sum(_native_dialect(call) in target.native for target in listed) > 1
    for token in reversed(list(states_in(_body.decode(call.body)))[-MAX_TOKENS:]):
        sealed = seals_in(token.encode())
        if sealed and not any(each.signature for each in sealed):
            continue
        try:
            label = sealed[-1].target if sealed else await continuity.target_of(team, token, new=several and not unknown)
        except LedgerUnavailable:  # no reason to fail: most states belong to the first target of their dialect
            return _first_native(call, listed)
        if label is not None and (found := _at(label, listed)) is not None:
            return found
        unknown = unknown or label is None
    return _first_native(call, listed) if unknown else None


def states_in(value: Any) -> Iterator[str]:
    """The opaque states of earlier answers in a request, in their order; not what only looks like one in a call's arguments or a schema."""
    if isinstance(value, list):
        for element in value:
            yield from states_in(element)
    elif isinstance(value, dict):
        kind = value.get("type")
        for name, member in value.items():
            if isinstance(member, str):
                if name in _STATES or kind in _TYPED.get(name, ()):
                    yield member
            elif name in ("conversation", "container") and isinstance(member, dict) and isinstance(member.get("id"), str):
                yield member["id"]
            elif name not in _SCHEMAS and not (name == "input" and kind in _CALLS):
                yield from states_in(member)


def _at(label: str, targets: Sequence[Target]) -> str | None:
    """That target, or else one of the same provider, whose key the state belongs to."""
    labels = [target.label for target in targets]
    if label in labels:
        return label
    return next((target.label for target in targets if label.startswith(f"{target.backend.name}/")), None)


def _first_native(call: Call, targets: tuple[Target, ...]) -> str | None:
    return next((target.label for target in targets if _native_dialect(call) in target.native), None)


def _native_dialect(call: Call) -> str:
    """Whose state it is: what passes below /responses is of that dialect."""
    return "openai_responses" if call.path.startswith("/responses") else call.dialect
