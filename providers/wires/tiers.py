"""The service tier that a provider says it answered in, where that is another than its standard one."""

from msgspec import DecodeError, Raw, json, structs

from contract.usage import Usage

# The standard tier by its makers' names; `batch` has its price by the batch that it is of.
STANDARD = frozenset({b'"default"', b'"standard"', b'"auto"', b'"on_demand"', b'"batch"', b'""', b"null", b""})
_UNTOLD = frozenset({b'"auto"', b'""', b"null", b""})  # `auto`: it is still to be chosen
MOST = 40  # characters that are kept of a name


def tier_of(raw: Raw) -> str | None:
    """`service_tier` of an answer (OpenAI, Groq) or of its usage (Anthropic). None: the standard one, or none was said."""
    said = bytes(raw)
    if said in STANDARD:
        return None
    try:
        return json.decode(said, type=str)[:MOST]
    except DecodeError:
        return None


def tier_in(raw: Raw) -> str | None:
    """Of Bedrock's `serviceTier`, an object."""
    if bytes(raw)[:1] != b"{":
        return None
    try:
        return tier_of(json.decode(raw, type=dict[str, Raw]).get("type", Raw(b"")))
    except DecodeError:
        return None


def is_told(raw: Raw) -> bool:
    """Whether the provider said which tier it answers in."""
    return bytes(raw) not in _UNTOLD


def without_counts(raw: Raw) -> Usage | None:
    """What is known of an answer whose usage did not come: the tier that it is told to be in, "" for the standard one. None: not even that."""
    return _of_tier(tier_of(raw), bytes(raw)) if is_told(raw) else None


def without_counts_in(raw: Raw) -> Usage | None:
    """The same of Bedrock's `serviceTier`."""
    return _of_tier(tier_in(raw), bytes(raw)) if bytes(raw)[:1] == b"{" else None


def so_far(usage: Usage, raw: Raw) -> Usage:
    """Of an answer that did not come to its end, whose usage did: with the tier "" where it is told to be in the standard one."""
    return structs.replace(usage, service_tier="") if usage.service_tier is None and is_told(raw) and tier_of(raw) is None else usage


def _of_tier(tier: str | None, said: bytes) -> Usage | None:
    """An object, a number: nobody knows what it says."""
    return Usage(service_tier=tier or "") if tier is not None or said[:1] in b'"{' else None
