"""What one request says of its own policy, where its team allows that: by headers `x-turnout-*`, or by the body's member `turnout`.

    policy        another entry of `policies`
    deadline_ms   the answer is whole so many milliseconds after the request's arrival
    max_cost      US dollars; a target that is predicted to cost more is left out (in the body: `max_cost_usd`)
    residency     `local_only`, or regions

They only narrow. The shorter deadline holds, the smaller cost, and what both residencies permit; a policy that the request names keeps the
residency and the price limit of the one it takes the place of. Regions that have nothing in common leave the gateway's own engines.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

import msgspec

from contract.call import Call
from contract.errors import InvalidRequest, PermissionDenied
from gateway.auth import Principal
from ledger.prices import NUSD_PER_USD
from policy.rule import Residency, Rule

ALL = frozenset({"policy", "deadline_ms", "max_cost", "residency"})
MEMBER = "turnout"
PREFIX = b"x-turnout-"
MAX_REGIONS = 50
MAX_DEADLINE_MS = 86_400_000
MAX_USD = 1_000_000
_HEADERS = {
    b"x-turnout-policy": "policy",
    b"x-turnout-deadline-ms": "deadline_ms",
    b"x-turnout-max-cost": "max_cost",
    b"x-turnout-residency": "residency",
}
_MEMBERS = {"policy": "policy", "deadline_ms": "deadline_ms", "max_cost_usd": "max_cost", "residency": "residency"}
_NUMBERS = frozenset({"deadline_ms", "max_cost"})
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?")
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_object = msgspec.json.Decoder(dict[str, Any] | None)


class Said(NamedTuple):
    """One override as the request says it. `param`: the header or the body's member, for errors. A header's value is text."""

    param: str
    value: Any


def overridden(rule: Rule, call: Call, headers: Iterable[tuple[bytes, bytes]], principal: Principal, rules: Mapping[str, Rule]) -> tuple[Rule, Call]:
    """The rule as the request narrows it, and the call without the body's member. `rules`: every policy by its name.

    Raises PermissionDenied (override_not_allowed) and InvalidRequest.
    """
    said: dict[str, Said] = {}
    for name, value in headers:
        if name >= PREFIX and name.startswith(PREFIX):  # most names are told apart by their first letter
            kind = _header(name)
            _note(said, kind, Said(name.decode("latin-1"), _header_value(kind, value.decode("latin-1").strip())))
    if MEMBER in call.fields:
        for member, value in _members(call.fields[MEMBER]):
            _note(said, _MEMBERS[member], Said(f"{MEMBER}.{member}", value))
        call = _without_member(call)
    if not said:
        return rule, call
    for kind, each in said.items():
        if kind not in principal.overrides:
            raise PermissionDenied(
                f"this key may not set `{each.param}`: its team's `overrides` allow no {kind}", param=each.param, code="override_not_allowed"
            )
    for kind, narrow in _NARROW.items():  # the policy first
        if kind in said:
            rule = narrow(rule, said[kind], rules)
    return rule, call


# --- what is said ----------------------------------------------------------------------------------------------------------
def _header(name: bytes) -> str:
    kind = _HEADERS.get(name)
    if kind is None:
        text = name.decode("latin-1")
        raise InvalidRequest(f"there is no header `{text}`{_known(text, [each.decode() for each in _HEADERS])}", param=text)
    return kind


def _header_value(kind: str, text: str) -> Any:
    """As the body's member would have it. Text that is no number stays text."""
    if kind == "residency":
        return text if text in ("any", "local_only") else [part.strip() for part in text.split(",")]
    return float(text) if kind in _NUMBERS and _NUMBER.fullmatch(text) else text


def _members(raw: msgspec.Raw) -> Iterable[tuple[str, Any]]:
    """The member's own that say something; null says nothing."""
    try:
        given = _object.decode(raw) or {}
    except msgspec.DecodeError as exc:
        raise InvalidRequest(f"`{MEMBER}` must be an object", param=MEMBER) from exc
    for name in given:
        if name not in _MEMBERS:
            raise InvalidRequest(f"`{MEMBER}` has no member `{name[:100]}`{_known(name, _MEMBERS)}", param=MEMBER)
    return [(name, value) for name, value in given.items() if value is not None]


def _note(said: dict[str, Said], kind: str, each: Said) -> None:
    if kind in said:
        raise InvalidRequest(f"`{each.param}` says again what `{said[kind].param}` says already; send one of them", param=each.param)
    said[kind] = each


def _without_member(call: Call) -> Call:
    """What goes upstream: every other member as it came."""
    fields = {name: raw for name, raw in call.fields.items() if name != MEMBER}
    return msgspec.structs.replace(call, fields=fields, body=msgspec.json.encode(fields))


def _known(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = get_close_matches(word, names, 1, 0.6)
    return f"; did you mean `{close[0]}`?" if close else f"; known: {', '.join(names[:50]) or 'none'}"


# --- what becomes of the rule ------------------------------------------------------------------------------------------------
def _policy(rule: Rule, said: Said, rules: Mapping[str, Rule]) -> Rule:
    name = said.value
    if not isinstance(name, str):
        raise InvalidRequest(f"`{said.param}` must be a policy's name", param=said.param)
    other = rules.get(name)
    if other is None:
        raise InvalidRequest(f"`{said.param}`: there is no policy `{name[:100]}`{_known(name[:100], rules)}", param=said.param)
    limits = [limit for limit in (rule.max_nusd, other.max_nusd) if limit is not None]
    return msgspec.structs.replace(other, residency=common(rule.residency, other.residency), max_nusd=min(limits, default=None))


def _deadline(rule: Rule, said: Said, rules: Mapping[str, Rule]) -> Rule:
    limit_s = _number(said, 1, MAX_DEADLINE_MS, "milliseconds") / 1000
    if rule.slo.deadline_s is not None and rule.slo.deadline_s <= limit_s:
        return rule
    return msgspec.structs.replace(rule, slo=msgspec.structs.replace(rule.slo, deadline_s=limit_s))


def _max_cost(rule: Rule, said: Said, rules: Mapping[str, Rule]) -> Rule:
    limit = int(_number(said, 0, MAX_USD, "US dollars") * NUSD_PER_USD)
    return rule if rule.max_nusd is not None and rule.max_nusd <= limit else msgspec.structs.replace(rule, max_nusd=limit)


def _residency(rule: Rule, said: Said, rules: Mapping[str, Rule]) -> Rule:
    return msgspec.structs.replace(rule, residency=common(rule.residency, _wanted(said)))


_NARROW: dict[str, Callable[[Rule, Said, Mapping[str, Rule]], Rule]] = {
    "policy": _policy,
    "residency": _residency,
    "max_cost": _max_cost,
    "deadline_ms": _deadline,
}


def _number(said: Said, least: float, most: float, unit: str) -> float:
    value = said.value
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:  # NaN is in no range
        raise InvalidRequest(f"`{said.param}` must be a number of {unit} from {least:g} to {most:g}", param=said.param)
    return value


def _wanted(said: Said) -> Residency:
    value = said.value
    if value in ("any", "local_only"):
        return "any" if value == "any" else "local_only"
    regions = value if isinstance(value, list) and len(value) <= MAX_REGIONS else []
    if not regions or not all(isinstance(each, str) and _REGION.fullmatch(each) and each not in ("any", "local_only") for each in regions):
        raise InvalidRequest(f"`{said.param}` must be any, local_only, or a list of at most {MAX_REGIONS} regions", param=said.param)
    return tuple(regions)


def common(one: Residency, other: Residency) -> Residency:
    """What both permit. `eu` permits `eu` and every region that begins with `eu-`, so of `eu` and `eu-west-1` the second is left."""
    if one == "any":
        return other
    if other == "any":
        return one
    if one == "local_only" or other == "local_only":
        return "local_only"
    left = [a for a in one if _within(a, other)] + [b for b in other if b not in one and _within(b, one)]
    return tuple(left) or "local_only"


def _within(region: str, regions: tuple[str, ...]) -> bool:
    return any(region == each or region.startswith(f"{each}-") for each in regions)
