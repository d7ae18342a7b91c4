"""The registry's rows as people read them."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from providers.registry import ProviderKind


def describe(name: str, row: ProviderKind, env: Mapping[str, str]) -> dict[str, Any]:
    """All of a row as plain values; `key_set`: whether its variable is set."""
    facts = {field: value for field, value in msgspec.structs.asdict(row.facts).items() if field not in ("renames", "reasoning_field")}
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
    left = f"{row['kind']:<18} {row['wire']:<19} {row['base_url'] or '(name a base_url)':<52} {key:<40}"
    return f"{left} {'no ' + ', '.join(lacks) if lacks else ''}".rstrip()


def listed(row: Mapping[str, Any]) -> Iterator[str]:
    """All of one row, a fact a line."""
    for name, value in row.items():
        if isinstance(value, dict):
            shown = ", ".join(f"{key} {item}" if not isinstance(item, bool) else key for key, item in value.items() if item is not False) or "none"
        else:
            shown = "none" if value is None else ("yes" if value else "no") if isinstance(value, bool) else str(value)
        yield f"{name.replace('_', ' '):<18} {shown}"
