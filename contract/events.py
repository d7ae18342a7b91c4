"""The closed set of stream events: what every wire format's stream is decoded to, and every dialect's is encoded from.

An answer is: `Started`, then content events, `Finished` for each choice, at most one `UsageReported`, `Ended`.
A stream that stops without `Ended` was cut. A unary answer is the same stream, come at once.

`choice` counts the alternatives of one request (`n`). `part` counts the content parts within a choice and never goes
back, but for OpenAI's parallel tool calls, whose deltas may interleave; an encoder whose format wants closed blocks
closes the open one when `part` changes, and holds the deltas of a later tool call back until its turn.
"""

import msgspec

from contract.finish import Finish
from contract.raw import ABSENT
from contract.usage import Usage


class _Event(msgspec.Struct, frozen=True, tag=True, tag_field="event", omit_defaults=True):
    """Base of the tagged union; never built itself."""


class Started(_Event, frozen=True, kw_only=True):
    """The answer's own identity. `created_s` is Unix time in seconds."""

    id: str
    model: str
    created_s: int
    extra: dict[str, msgspec.Raw] = {}


class TextDelta(_Event, frozen=True, kw_only=True):
    """A piece of visible text. `logprobs` is the provider's object for these tokens, as JSON."""

    text: str
    choice: int = 0
    part: int = 0
    logprobs: msgspec.Raw = ABSENT


class RefusalDelta(_Event, frozen=True, kw_only=True):
    text: str
    choice: int = 0
    part: int = 0
    logprobs: msgspec.Raw = ABSENT


class ReasoningDelta(_Event, frozen=True, kw_only=True):
    text: str
    choice: int = 0
    part: int = 0


class ReasoningSignature(_Event, frozen=True, kw_only=True):
    """Closes a reasoning part: an opaque proof that must be returned unchanged. `redacted`: the text itself is withheld.

    `maker`: the wire it came by. `id`: the provider's name for the reasoning (OpenAI's rs_…).
    """

    signature: str
    maker: str = ""
    id: str | None = None
    redacted: bool = False
    choice: int = 0
    part: int = 0


class ToolCallStarted(_Event, frozen=True, kw_only=True):
    """`id` is never empty: a wire whose provider sends none makes one. `signature`, `maker`: as a reasoning part's."""

    id: str
    name: str
    signature: str | None = None
    maker: str = ""
    choice: int = 0
    part: int = 0


class ToolCallDelta(_Event, frozen=True, kw_only=True):
    """A piece of the arguments' JSON text, which may be empty and is not JSON by itself."""

    arguments: str
    choice: int = 0
    part: int = 0


class AudioDelta(_Event, frozen=True, kw_only=True):
    """A piece of audio output, as the provider's object."""

    audio: msgspec.Raw
    choice: int = 0
    part: int = 0


class Annotated(_Event, frozen=True, kw_only=True):
    """A citation or other annotation on the part: what is common to all, and the provider's object in its wire's own form.

    `start`, `end`: character offsets into the part's text.
    """

    annotation: msgspec.Raw
    maker: str = ""
    url: str | None = None
    title: str | None = None
    cited_text: str | None = None
    start: int | None = None
    end: int | None = None
    choice: int = 0
    part: int = 0


class NativeOutput(_Event, frozen=True, kw_only=True):
    """A whole piece of output that only its own format knows (a server tool's call or result), as the wire `maker`'s object."""

    kind: str
    raw: msgspec.Raw
    maker: str
    choice: int = 0
    part: int = 0


class Finished(_Event, frozen=True, kw_only=True):
    finish: Finish
    choice: int = 0


class UsageReported(_Event, frozen=True, kw_only=True):
    """Cumulative: the last one is the truth."""

    usage: Usage


class Ended(_Event, frozen=True):
    """The provider's terminal event was seen: the answer is whole. `told`: of an answer without `UsageReported`, the service tier that it told."""

    told: Usage | None = None


Event = (
    Started
    | TextDelta
    | RefusalDelta
    | ReasoningDelta
    | ReasoningSignature
    | ToolCallStarted
    | ToolCallDelta
    | AudioDelta
    | Annotated
    | NativeOutput
    | Finished
    | UsageReported
    | Ended
)
ContentEvent = (
    TextDelta | RefusalDelta | ReasoningDelta | ReasoningSignature | ToolCallStarted | ToolCallDelta | AudioDelta | Annotated | NativeOutput
)
