"""The service tier that a provider says it answered in, where that is another than its standard one."""

from msgspec import DecodeError, Raw, json

# The standard tier by its makers' names; `batch` has its price by the batch that it is of.
STANDARD = frozenset({b'"default"', b'"standard"', b'"auto"', b'"on_demand"', b'"batch"', b'""', b"null", b""})
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
