"""What a cell of the matrix is about, in words of no dialect: what was asked of the provider, what it answers, what the client got."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A tool call; `pieces` joined are its arguments' JSON text."""

    id: str
    name: str
    pieces: tuple[str, ...]

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True)
class Script:
    """What the provider answers. `signature`: the opaque proof beside its reasoning. `second`: the text of a second choice."""

    text: tuple[str, ...] = ("Hello", " there")
    reasoning: tuple[str, ...] = ()
    signature: str | None = None
    calls: tuple[Call, ...] = ()
    finish: str = "stop"
    refusal: str | None = None
    citation: tuple[str, str] | None = None  # URL and title
    logprobs: bool = False
    second: str | None = None


@dataclass
class Asked:
    """The request as the provider got it, read in the provider's own terms. `choice`: auto, none, required, or named:NAME."""

    system: list[str] = field(default_factory=list)
    turns: list[tuple[str, str]] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    image_urls: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    file_urls: list[str] = field(default_factory=list)
    audio: list[str] = field(default_factory=list)
    tools: list[tuple[str, str, Json]] = field(default_factory=list)
    calls: list[tuple[str, Json]] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)  # of which function, and its text
    errors: int = 0  # results that are said to be errors
    choice: str | None = None
    parallel: bool | None = None
    reasoning: bool = False
    signatures: list[str] = field(default_factory=list)
    schema: Json | None = None
    json: bool = False
    stop: list[str] = field(default_factory=list)
    max_tokens: int | None = None
    sampling: Json = field(default_factory=dict)  # temperature, top_p, top_k, seed, n, frequency_penalty, presence_penalty
    logprobs: bool = False
    cached: int = 0  # marks of the prompt cache
    user: str | None = None
    metadata: Json = field(default_factory=dict)
    unknown: bool = False


@dataclass
class Got:
    """The answer as the client reads it. `native`: what the client returns of it in its next request. None: the dialect has no place for it."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)  # name and arguments
    finish: str | None = None
    refusal: str = ""
    citations: list[tuple[str, str]] = field(default_factory=list)
    logprobs: list[str] = field(default_factory=list)
    second: str | None = None
    usage: Mapping[str, int | None] = field(default_factory=dict)
    native: Any = None


# What every provider of the matrix counts, in the classes that it tells of.
USAGE = {"input": 100, "cached": 40, "output": 30, "reasoning": 10}
UNKNOWN = "x_vendor_option"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = "JVBERi0xLjQKJSVFT0YK"
PICTURE_URL = "https://pictures.example/cat.png"
FILE_URL = "https://papers.example/a.pdf"
WAV = "UklGRiQAAABXQVZF"
SIGNATURE = "c2lnbmVkLWJ5LXRoZS1wcm92aWRlcg=="
SCHEMA: Json = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
TOOL = ("weather", "Tells the weather", SCHEMA)
OTHER_TOOL = ("time", "Tells the time", {"type": "object", "properties": {}})
CITATION = ("https://pages.example/a", "A page")
PARIS = Call("call_abc123", "weather", ('{"ci', 'ty": "Par', 'is"}'))
TOKYO = Call("call_def456", "weather", ('{"city": ', '"Tokyo"}'))
NOTHING = Call("call_ghi789", "time", ())


def sse(events: Sequence[Any], *, named: bool = False, done: bool = False) -> bytes:
    """Events as a stream's bytes, with their `type` as the event's name where the format has names."""
    told = [(f"event: {event['type']}\n" if named else "") + f"data: {json.dumps(event)}\n\n" for event in events]
    return "".join([*told, "data: [DONE]\n\n" if done else ""]).encode()
