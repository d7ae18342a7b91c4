"""Figures of several passes as Markdown tables: medians, and [lowest–highest] where passes differ."""

import statistics
from collections.abc import Mapping, Sequence

from rig.gateways import GATEWAYS

Pass = Mapping[str, Mapping[str, float]]  # by gateway's name, by figure's name
Column = tuple[str, str, int]  # heading, figure, decimals; "+" before a figure: less the direct one of the same pass

COST: list[Column] = [
    ("requests/s", "rps", 0),
    ("CPU µs/request", "cpu_us", 0),
    ("÷ nginx", "cpu_us/nginx", 1),
    ("÷ LiteLLM", "cpu_us/litellm", 4),
    ("+p50 ms", "+p50_ms", 2),
    ("+p99 ms", "+p99_ms", 1),
    ("RSS MB", "rss_mb", 0),
    ("start s", "start_s", 1),
]
STREAMS: list[Column] = [
    ("+TTFT ms", "+ttft_ms", 2),
    ("+ms per event, 10 ms apart", "+delay_ms", 3),
    ("CPU µs/event, 10 ms apart", "event_us", 0),
    ("paced events/s", "paced_eps", 0),
    ("burst events/s", "burst_eps", 0),
    ("stall-free streams", "streams_held", 0),
]
BODIES: list[Column] = [
    (f"{size} KB {what}", f"{size}k_{name}", 0) for size in (1, 10, 100) for what, name in (("requests/s", "rps"), ("CPU µs", "cpu_us"))
]
DIALECTS: list[Column] = [
    (f"{shown} {what}", f"{dialect}_{name}", 0)
    for dialect, shown in (("messages", "Messages"), ("responses", "Responses"))
    for what, name in (("requests/s", "rps"), ("CPU µs", "cpu_us"), ("paced events/s", "paced_eps"), ("burst events/s", "burst_eps"))
]


def values(passes: Sequence[Pass], name: str, figure: str) -> list[float]:
    """One for each pass that has it. A ratio `FIGURE/PEER` and a difference `+FIGURE` are of the same pass."""
    found = []
    for each in passes:
        mine = each.get(name, {})
        key, _, peer = figure.partition("/")
        other = each.get(peer or "direct", {}).get(key.removeprefix("+"))
        value = mine.get(key.removeprefix("+"))
        if value is None or ((peer or key.startswith("+")) and not other) or (key.startswith("+") and name == "direct"):
            continue
        found.append(value / other if peer and other else value - other if key.startswith("+") and other is not None else value)
    return found


def shown(found: Sequence[float], digits: int) -> str:
    if not found:
        return ""
    low, middle, high = (f"{value:,.{digits}f}" for value in (min(found), statistics.median(found), max(found)))
    return middle if low == high else f"{middle} [{low}–{high}]"


def markdown(passes: Sequence[Pass], columns: Sequence[Column]) -> str:
    """A row for each gateway that has any of the figures."""
    lines = ["| gateway | " + " | ".join(title for title, _, _ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, gateway in GATEWAYS.items():
        cells = [shown(values(passes, name, figure), digits) for _, figure, digits in columns]
        if any(cells):
            lines.append(f"| {gateway.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tables(passes: Sequence[Pass], missing: Mapping[str, str]) -> str:
    """All of them. `missing`: what could not be measured and why, by gateway's name or name and phase."""
    parts = [
        "Requests: 32 connections at saturation; the added latencies at 50 requests a second (LiteLLM: 10).",
        markdown(passes, COST),
        "Streams: added time to the first token and per event at 10 streams a second (LiteLLM: 2); *paced*: 200 streams with an event every 5 ms; "
        "*burst*: 16 streams without pauses; *stall-free*: the most streams (powers of two, 2,048 at most) with an event every 20 ms, of which 99 in "
        "100 never waited 200 ms.",
        markdown(passes, STREAMS),
        "Bodies of three sizes, 8 connections:",
        markdown(passes, BODIES),
        "Another dialect than the provider's, which speaks chat:",
        markdown(passes, DIALECTS),
    ]
    if missing:
        parts.append("Not measured:\n\n" + "\n".join(f"- {name}: {why}" for name, why in missing.items()))
    return "\n\n".join(parts)
