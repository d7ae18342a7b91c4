"""Owned engines' and pools' own metrics as they are read, to be told on with an `engine` label and their names untouched. Pure.

What another program wrote is taken line by line and only where it is well-formed; the rest is left out. A label that the engine itself calls
`engine` (vLLM's number of its core) becomes `exported_engine`, as Prometheus does with what collides.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

# vllm:…, llamacpp:…, sglang:…, turnout:… (replicas); not the process's own python_… and http_…
_NAME = r"[a-z]+:[A-Za-z0-9_:]+"
_LABEL = r'[A-Za-z_]\w*="(?:[^"\\\n]|\\["\\n])*"'
_VALUE = r"[+-]?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|Inf|NaN)"
_HEAD = re.compile(rf"# (HELP|TYPE) ({_NAME}) (.*)")
_SAMPLE = re.compile(rf"({_NAME})(?:\{{((?:{_LABEL})(?:,{_LABEL})*),?\}})? ({_VALUE})(?: \d+)?")
_OWN_ENGINE = re.compile(r"(?:(?<=,)|^)engine=(?=\")")
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
KINDS = ("counter", "gauge", "histogram", "summary")
PARTS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
MOST_LINES = 20_000  # of one page: about 2 MB


class PageFamily(NamedTuple):
    """`samples`: whole lines."""

    name: str
    kind: str
    help: str
    samples: list[str]


def families_of(pages: Mapping[str, str]) -> list[PageFamily]:
    """Those of all engines and pools, each once. `pages`: by its name."""
    found: dict[str, PageFamily] = {}
    for whose, text in pages.items():
        engine = whose.translate(_ESCAPED)
        kinds: dict[str, str] = {}
        helps: dict[str, str] = {}
        for line in text.splitlines()[:MOST_LINES]:
            if (head := _HEAD.fullmatch(line)) is not None:
                what, name, told = head.groups()
                if what == "HELP":
                    helps[name] = told
                elif told in KINDS:
                    kinds[name] = told
            elif (sample := _SAMPLE.fullmatch(line)) is not None and not sample[1].endswith("_created"):
                name = _family(sample[1], kinds)
                kind = kinds.get(name, "unknown")
                family = found.setdefault(name, PageFamily(name, kind, helps.get(name, ""), []))
                if family.kind == kind:  # engines of two versions may differ; the first one's word counts
                    family.samples.append(_labelled(engine, sample[1], sample[2], sample[3]))
    return list(found.values())


def _family(sample: str, kinds: Mapping[str, str]) -> str:
    """Whose sample it is: a histogram's end in one of its parts."""
    for kind, parts in PARTS.items():
        for part in parts:
            if sample.endswith(part) and kinds.get(sample.removesuffix(part)) == kind:
                return sample.removesuffix(part)
    return sample


def _labelled(engine: str, name: str, labels: str | None, value: str) -> str:
    rest = "" if not labels else "," + _OWN_ENGINE.sub("exported_engine=", labels)
    return f'{name}{{engine="{engine}"{rest}}} {value}'
