"""A call as the policy sees it: its length, its limit, what it needs, and what of it a target may have in its prefix cache. Cheap."""

import re
from collections.abc import Mapping

from contract.call import Call
from contract.usage import BYTES_PER_TOKEN
from gateway.routes import Route
from gateway.scan import PARTS, SCHEMA
from policy.affinity import prefixes
from policy.ask import NOTHING, Ask
from policy.rule import Rule

LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_LIMITS = frozenset(LIMITS)
PROMPTS = ("messages", "input", "prompt")
NOBODY: frozenset[str] = frozenset()
SMALL = 4096  # bytes: whatever it is, it does not matter
MEDIUM_TOKENS = 1000  # OpenAI 85-1445 for a picture, Anthropic up to 1600
MOST_MEDIUM_TOKENS = 5000  # Anthropic's largest picture has 4784
_MEDIA = (b";base64,", b'"data":"', b'"data": "')  # what stands before a medium's bytes, up to the next quote
_DRAWN = (b'"result":"', b'"result": "')  # the same of a picture that an earlier answer drew
_DRAWING = b"image_generation_call"
_TOOLS = ("tools", "functions")
_PART_NAMES = frozenset(sign.strip(b'"') for signs in PARTS.values() for sign in signs)
_SHOWN = re.compile(rb'"(?:image|file|input_|document")').search  # half of what a search for each of them costs
_OF_A_PART = re.compile(rb'"(?:url|image_url|audio_url|video_url|file_data|data)"\s*:\s*"data:(?!text/)[^"\\]{0,100}\Z').search
_BEFORE = 160  # bytes before `;base64,` in which such a member begins
AROUND = 32  # bytes of a medium's mark that may stand before its string begins


def ask_of(call: Call, rule: Rule, route: Route, bound_to: str | None, found: tuple[int, ...], now: float) -> Ask:
    """`found`: the prompt's prefixes (`prefixes_of`)."""
    prompt_tokens, warm = prompt_tokens_about(call), NOTHING
    if found and (held := route.affinity.warm(found, now)):
        warm = _warm(held, route, prompt_tokens, now)
    needs = _needs(call, route.lacking) if route.lacking and rule.drop != "everything" else NOBODY
    return Ask(call.request_id, call.stream, prompt_tokens, limit_of(call), needs, bound_to, warm, choices=call.choices)


def _warm(held: Mapping[str, int], route: Route, prompt_tokens: int, now: float) -> dict[str, int]:
    """Tokens of the prompt that each target's cache is likely to have. `held`: bytes that were answered there."""
    labels = route.labels
    return {
        label: min(prompt_tokens, int(size // BYTES_PER_TOKEN * labels[label].stats.hits.share(now)))
        for label, size in held.items()
        if label in labels
    }


def prompt_tokens_about(call: Call) -> int:
    """The bytes of a picture or a sound are not text: each counts MEDIUM_TOKENS, however large it is."""
    length = len(call.body)
    if length <= SMALL:
        return length // BYTES_PER_TOKEN
    media, size = _media(call)
    return max(0, length - size) // BYTES_PER_TOKEN + media * MEDIUM_TOKENS


def most_prompt_tokens(call: Call) -> int:
    """At most: a token is at least a byte of text. What stands there as a reference counts like a large picture."""
    body, names = call.body, call.names
    media, size = (0, 0) if len(body) <= SMALL else _media(call)
    if _shows(body) if names is None else not names.isdisjoint(_PART_NAMES):
        for signs in PARTS.values():
            for sign in signs:
                media += body.count(sign)
    text = len(body) - size
    return (text if text > 0 else 0) + media * MOST_MEDIUM_TOKENS


def _shows(body: bytes) -> bool:
    """Whether a part may stand there."""
    return _SHOWN(body) is not None


def _media(call: Call) -> tuple[int, int]:
    """How many pictures and sounds stand in a body of more than SMALL themselves, and their bytes."""
    media, size, body = 0, 0, call.body
    if call.names is None or call.longest >= SMALL - AROUND:
        drawn = _DRAWING in (body if call.names is None else call.names)
        for mark in _MEDIA + _DRAWN if drawn else _MEDIA:
            at = body.find(mark)
            while at >= 0 and (end := body.find(b'"', at + len(mark))) >= 0:
                if end - at > SMALL and _is_medium(body, mark, at, end):
                    media, size = media + 1, size + end - at
                at = body.find(mark, end)
    return media, size


def _is_medium(body: bytes, mark: bytes, at: int, end: int) -> bool:
    """Whether the string in which `mark` stands is a medium's: the value of a member that holds one, in which a quote within a text cannot be, and
    nothing in it that base64 has not."""
    if mark is _MEDIA[0] and _OF_A_PART(body, max(0, at - _BEFORE), at) is None:
        return False
    return body.find(b" ", at + len(mark), end) < 0


def prefixes_of(call: Call) -> tuple[int, ...]:
    """Of the part of the body that grows with a conversation."""
    for name in PROMPTS:
        raw = call.fields.get(name)
        if raw is not None:
            return prefixes(memoryview(raw))
    return ()


def limit_of(call: Call) -> int | None:
    """Tokens that the client lets an answer have; None: it does not say."""
    fields = call.fields
    if not _LIMITS.isdisjoint(fields):
        for name in LIMITS:
            if (raw := fields.get(name)) is not None:
                text = bytes(raw)
                return int(text) if text.isdigit() and len(text) < 10 else None
    return None


def _needs(call: Call, lacking: frozenset[str]) -> frozenset[str]:
    """Of what not every target can do, what the request asks for."""
    needs = []
    if "tools" in lacking and any(bytes(call.fields.get(name, b"[]")) not in (b"[]", b"null") for name in _TOOLS):
        needs.append("tools")
    if "n" in lacking and call.choices > 1:
        needs.append("n")
    for kind, signs in PARTS.items():
        if kind in lacking and _holds(call, signs):
            needs.append(kind)
    if "json_schema" in lacking and _holds(call, (SCHEMA,)):
        needs.append("json_schema")
    return frozenset(needs)


def _holds(call: Call, signs: tuple[bytes, ...]) -> bool:
    """Whether one of these names, each in its quotes, stands in the body."""
    names = call.names
    if names is None:
        return any(sign in call.body for sign in signs)
    return any(sign[1:-1] in names for sign in signs)
