"""What one process, or several together, counted up to a moment: plain values that can be sent and added."""

from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.metrics.families import FAMILIES

Labels = tuple[str, ...]
Exemplar = tuple[str, float, float]  # request id, the value, Unix seconds


class Buckets(msgspec.Struct, array_like=True):
    """One histogram: `counts` of each bucket alone, the last beyond the highest bound; `total` of the values."""

    counts: list[int]
    total: float
    exemplars: list[Exemplar | None]


class Snapshot(msgspec.Struct, array_like=True):
    """By metric, then by its labels' values in the order of the table. Counters and gauges are as they are counted, without their scale."""

    values: dict[str, list[tuple[Labels, float]]] = {}
    histograms: dict[str, list[tuple[Labels, Buckets]]] = {}

    def kept(self) -> "Snapshot":
        """What remains true when the process is gone: what it counted, not how it was."""
        return Snapshot({name: values for name, values in self.values.items() if FAMILIES[name].kind == "counter"}, self.histograms)


_decoder = msgspec.msgpack.Decoder(Snapshot)
encoded = msgspec.msgpack.Encoder().encode


def decoded(data: bytes) -> Snapshot:
    """Raises msgspec.MsgspecError."""
    return _decoder.decode(data)


def together(snapshots: Iterable[Snapshot]) -> Snapshot:
    """All in one. Of what every process knows for all (`one`) the first one's word counts."""
    values: dict[str, dict[Labels, float]] = {}
    histograms: dict[str, dict[Labels, Buckets]] = {}
    for snapshot in snapshots:
        for name, told in snapshot.values.items():
            _add(values.setdefault(name, {}), told, FAMILIES[name].together)
        for name, shapes in snapshot.histograms.items():
            known = histograms.setdefault(name, {})
            for labels, buckets in shapes:
                known[labels] = buckets if (before := known.get(labels)) is None else _sum(before, buckets)
    return Snapshot(_listed(values), _listed(histograms))


def _add(known: dict[Labels, float], told: list[tuple[Labels, float]], how: str) -> None:
    for labels, value in told:
        before = known.get(labels)
        if before is None:
            known[labels] = value
        elif how != "one":
            known[labels] = before + value if how == "sum" else max(before, value)


def _sum(one: Buckets, two: Buckets) -> Buckets:
    """Of two exemplars the newer stays."""
    newer = [max(pair, key=lambda each: each[2] if each else 0.0) for pair in zip(one.exemplars, two.exemplars, strict=True)]
    return Buckets([a + b for a, b in zip(one.counts, two.counts, strict=True)], one.total + two.total, newer)


def _listed(known: dict[str, dict[Labels, Any]]) -> dict[str, Any]:
    return {name: list(told.items()) for name, told in known.items()}
