"""The registry's rows as people read them."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from providers.registry import ProviderKind

NO_CAPABILITIES = frozenset({"renames", "reasoning_field", "prefill_with", "prefill_repeats"})  # facts of how, not of whether


def describe(name: str, row: ProviderKind, env: Mapping[str, str]) -> dict[str, Any]:
    """All of a row as plain values; `key_set`: whether its variable is set."""
    facts = {field: value for field, value in msgspec.structs.asdict(row.facts).items() if field not in NO_CAPABILITIES}
    return {
        "kind": name,
        "wire": row.wire,
        "base_url": row.base_url,
        "key": row.key_env,
        "key_set": bool(row.key_env and env.get(row.key_env)),
        "auth": row.auth,
        "native": dict(row.native),
        "embeddings": row.embeddings or ("openai" if "openai_embeddings" in row.native else None),
        "passes": dict(row.passes),
        "prices": row.price_provider,
        "stream_usage": row.stream_usage,
        "terminal_event": row.terminal,
        "keeps_responses": row.keeps_responses,
        "batch": row.batch,
        "capabilities": facts,
        "reasoning_field": row.facts.reasoning_field,
        "renames": dict(row.facts.renames),
    }


def row_line(row: Mapping[str, Any]) -> str:
    """A row in a line of the list."""
    key = f"{row['key']} ({'set' if row['key_set'] else 'not set'})" if row["key"] else "no key needed"
    lacks = [name for name, can in row["capabilities"].items() if not can]
    left = f"{row['kind']:<18} {row['wire']:<19} {key:<36} {row['base_url'] or '(name a base_url)'}"
    return f"{left}  no {', '.join(lacks)}" if lacks else left


def listed(row: Mapping[str, Any]) -> Iterator[str]:
    """All of one row, a fact a line, and a path a line."""
    for name, value in row.items():
        first, *more = list(_words(value)) or ["none"]
        yield f"{name.replace('_', ' '):<18} {first}"
        yield from (f"{'':<18} {line}" for line in more)


def _words(value: Any) -> Iterator[str]:
    match value:
        case dict() if all(isinstance(item, bool) for item in value.values()):
            yield ", ".join(key for key, item in value.items() if item) or "none"
        case dict():
            yield from (key if key == item else f"{key}  ->  {item}" for key, item in value.items())
        case bool():
            yield "yes" if value else "no"
        case _:
            yield "none" if value is None else str(value)
