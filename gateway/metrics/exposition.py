"""Snapshots as text: Prometheus' own format, and OpenMetrics 1.0 with exemplars. Pure."""

from collections.abc import Iterable, Iterator
from itertools import accumulate

from gateway.metrics.engine_pages import PageFamily
from gateway.metrics.families import FAMILIES, Family
from gateway.metrics.snapshot import Buckets, Exemplar, Labels, Snapshot

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def wants_open_metrics(accept: str) -> bool:
    """Whether a scraper's `Accept` names OpenMetrics, which all that know it prefer."""
    return "application/openmetrics-text" in accept.lower()


def exposition(snapshot: Snapshot, pages: Iterable[PageFamily], open_metrics: bool) -> bytes:
    """Every metric of the table that has a value, then what engines tell of themselves."""
    lines: list[str] = []
    for name, family in FAMILIES.items():
        samples = [*_samples(name, family, snapshot, open_metrics)]
        if samples:
            lines += _head(name, family.kind, family.help, open_metrics)
            lines += samples
    for page in pages:
        known = not (open_metrics and page.kind == "counter" and not page.name.endswith("_total"))  # there a counter's samples must
        lines += _head(page.name, page.kind if known else "unknown", page.help, open_metrics)
        lines += page.samples
    if open_metrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


def _head(name: str, kind: str, help: str, open_metrics: bool) -> list[str]:
    if open_metrics and kind == "counter":
        name = name.removesuffix("_total")
    kind = "untyped" if kind == "unknown" and not open_metrics else kind
    return [f"# HELP {name} {_escaped(help, quotes=open_metrics)}", f"# TYPE {name} {kind}"]


def _samples(name: str, family: Family, snapshot: Snapshot, open_metrics: bool) -> Iterator[str]:
    for labels, value in snapshot.values.get(name, ()):
        yield f"{name}{_labels(family.labels, labels)} {_number(family.scaled(value))}"
    for labels, buckets in snapshot.histograms.get(name, ()):
        yield from _histogram(name, family, labels, buckets, open_metrics)


def _histogram(name: str, family: Family, labels: Labels, buckets: Buckets, open_metrics: bool) -> Iterator[str]:
    sums = list(accumulate(buckets.counts))
    bounds = [*map(repr, family.buckets), "+Inf"]
    for bound, count, exemplar in zip(bounds, sums, buckets.exemplars, strict=True):
        seen = "" if exemplar is None or not open_metrics else _exemplar(exemplar)
        yield f"{name}_bucket{_labels((*family.labels, 'le'), (*labels, bound))} {count}{seen}"
    told = _labels(family.labels, labels)
    yield f"{name}_sum{told} {_number(buckets.total)}"
    yield f"{name}_count{told} {sums[-1]}"


def _exemplar(exemplar: Exemplar) -> str:
    request_id, value, at = exemplar
    return f' # {{request_id="{request_id}"}} {_number(value)} {at:.3f}'


def _labels(names: Iterable[str], values: Iterable[str]) -> str:
    told = ",".join(f'{name}="{_escaped(value, quotes=True)}"' for name, value in zip(names, values, strict=True))
    return f"{{{told}}}" if told else ""


def _escaped(text: str, quotes: bool) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    return repr(value) if value % 1 else str(int(value))
