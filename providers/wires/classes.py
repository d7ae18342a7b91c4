"""The input and the output that a provider counts as wholes, taken apart into disjoint classes."""

import msgspec

from contract.usage import UsageSource


class Input(msgspec.Struct, frozen=True):
    """Tokens of each class; None: not known. `source`: estimated where what was told cannot be, or counts tokens twice."""

    uncached: int | None
    cache_read: int | None = None
    cache_write: int | None = None
    audio: int | None = None
    images: int | None = None
    source: UsageSource = "provider"


def input_of(
    total: int | None, cache_read: int | None = None, cache_write: int | None = None, audio: int | None = None, images: int | None = None
) -> Input:
    """`total` has the others in it. Of a prompt that is said to have more cached tokens than tokens, or a class below 0, only the tokens are
    believed; what was read and is written anew counts in both, as OpenRouter bills it (recorded, of Gemini). Audio and images that do not fit beside
    the cached tokens are cached ones too, and count there. A negative total says nothing."""
    if total is None or total < 0:
        return Input(None, cache_read, cache_write, audio, images)
    if not (cache_read or cache_write or audio or images):
        return Input(total, cache_read, cache_write, audio, images)
    read, written = cache_read or 0, cache_write or 0
    if read > total or written > total or min(read, written, audio or 0, images or 0) < 0:
        return Input(total, source="estimated")
    left = total - read - written
    if left < 0:
        left = 0
    rest = left - (audio or 0) - (images or 0)
    if rest >= 0:
        return Input(rest, cache_read, cache_write, audio, images)
    heard = None if audio is None else min(audio, left)
    seen = None if images is None else min(images, left - (heard or 0))
    return Input(0, cache_read, cache_write, heard, seen, "estimated")


class Output(msgspec.Struct, frozen=True):
    """As `Input`."""

    visible: int | None
    reasoning: int | None = None
    audio: int | None = None
    images: int | None = None
    source: UsageSource = "provider"


def output_of(total: int | None, reasoning: int | None = None, audio: int | None = None, images: int | None = None) -> Output:
    """`total` has the others in it. Of an output that is said to have more tokens of a class than tokens, or a class below 0, only the tokens are
    believed; classes that do not fit beside each other are believed in their order, as far as they do. A negative total says nothing; classes without
    a total are no more than an estimate."""
    if total is None or total < 0:
        return Output(None, reasoning, audio, images, "estimated" if reasoning or audio or images else "provider")
    if not (reasoning or audio or images):
        return Output(total, reasoning, audio, images)
    parts = (reasoning or 0, audio or 0, images or 0)
    if min(parts) < 0 or max(parts) > total:
        return Output(total, source="estimated")
    rest = total - sum(parts)
    if rest >= 0:
        return Output(rest, reasoning, audio, images)
    left = total - (reasoning or 0)
    heard = None if audio is None else min(audio, left)
    drawn = None if images is None else min(images, left - (heard or 0))
    return Output(0, reasoning, heard, drawn, "estimated")


def source_of(read: Input, made: Output) -> UsageSource:
    """Of both sides: estimated where one is."""
    return made.source if read.source == "provider" else read.source
