"""Several signed pieces of reasoning in one message: OpenAI's format has one text for all, so `reasoning_signature` says where each begins.

A list with `.` between: each entry a seal, or nothing where the text is unsigned, and after it the character at which its text begins, if not
at the first. A single signed reasoning is its seal alone. As a stream's deltas the pieces are joined, like all text of a delta.
"""

from contract import events as ev
from contract import requests as r
from providers.wires.seal import Seal, seal, unseal


class Spans:
    """One choice's reasoning while it comes in; gives the pieces of its `reasoning_signature`."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._length = 0  # of the text so far
        self._part = -1
        self._start = 0  # of the open part's text
        self._told = False

    def text(self, event: ev.ReasoningDelta) -> str:
        """What a text adds: nothing, but where unsigned text may follow signed."""
        begins = self._enter(event.part)
        self._length += len(event.text)
        return f"..{self._start}" if begins and self._told else ""

    def signature(self, event: ev.ReasoningSignature) -> str:
        self._enter(event.part)
        sealed = seal(Seal(self._target, event.maker, event.signature, redacted=event.redacted, id=event.id))
        piece = ("." if self._told else "") + sealed + (f".{self._start}" if self._start else "")
        self._told = True
        return piece

    def _enter(self, part: int) -> bool:
        if part == self._part:
            return False
        self._part, self._start = part, self._length
        return True


def read_spans(text: str, given: str) -> list[r.ReasoningPart] | None:
    """The reasoning's parts; None: what was given is not of our making."""
    entries: list[tuple[Seal | None, int]] = []
    for token in given.split("."):
        if token.isdecimal() and entries:
            entries[-1] = (entries[-1][0], min(int(token), len(text)))
            continue
        found = unseal(token)
        if found is None and token:
            return None
        entries.append((found, 0))
    starts = [start for _, start in entries] + [len(text)]
    parts = [r.ReasoningPart(text=text[: starts[0]])] if starts[0] else []
    for (found, start), end in zip(entries, starts[1:], strict=True):
        if found is not None:
            signature = found.signature or None
            parts.append(r.ReasoningPart(text=text[start:end], signature=signature, redacted=found.redacted, id=found.id, maker=found.maker))
        elif text[start:end]:
            parts.append(r.ReasoningPart(text=text[start:end]))
    return parts
