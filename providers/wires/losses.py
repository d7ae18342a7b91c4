"""What a request asks for and its target cannot give: collected while it is encoded, then refused or dropped, and always told.

Names are the contract's own (`logprobs`, `messages.image`, `tools.web_search`, `extra.service_tier`); a dialect shows them in its words.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from contract.requests import ChatRequest, FunctionTool
from providers.wires.fields import read

# What asks for nothing that the answer must have: billing, caching, tracing, style. The last part of a loss's name decides.
HINTS = frozenset(
    {
        "annotations",  # of an earlier answer
        "background_storage",
        "betas",
        "cache_control",
        "client_metadata",
        "defer_loading",
        "detail",
        "eager_input_streaming",
        "include",
        "index",  # of a call, as a client puts it back from a stream
        "inference_geo",
        "is_error",
        "metadata",
        "name",
        "parsed",
        "parsed_arguments",
        "phase",
        "prediction",
        "prompt_cache_breakpoint",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_text",  # unsigned: most providers leave it out themselves
        "safety_identifier",
        "service_tier",
        "store",
        "stream_options",
        "strict",
        "user",
        "verbosity",
    }
)
# what `include` asks for that a translated answer holds by itself, where the provider gives it
INCLUDED = frozenset({"reasoning.encrypted_content", "message.output_text.logprobs"})


# values that say what is so without them
DEFAULTS: dict[str, tuple[object, ...]] = {
    "background": (False,),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "truncation": ("disabled",),
    "verbosity": ("medium",),
}


def is_empty(value: object) -> bool:
    """Whether a JSON value asks for nothing: null, an empty text or list, or an object of nothing but these."""
    if isinstance(value, dict):
        return all(map(is_empty, value.values()))
    return value is None or value in ("", [])


def is_given(name: str, raw: Raw) -> bool:
    """Whether a member asks for nothing but what is done anyway: it is empty or a default, or asks what a translated answer tells.

    An empty `web_search_options` does ask: for a search as usual.
    """
    value = read(raw, object, name)
    if (name != "web_search_options" and is_empty(value)) or value in DEFAULTS.get(name, ()):
        return True
    if name != "include":
        return False
    try:
        return INCLUDED.issuperset(msgspec.json.decode(raw, type=list[str]))
    except msgspec.DecodeError:
        return False


class Losses:
    """`fatal`: fields that would change the answer. `hints`: those that would not. Each name stands once, in the order it was met."""

    def __init__(self) -> None:
        self.fatal: list[str] = []
        self.hints: list[str] = []

    def lose(self, name: str) -> None:
        """Notes one field of the request that the encoded one does not have."""
        kept = self.hints if name.rpartition(".")[2] in HINTS else self.fatal
        if name not in kept:
            kept.append(name)

    def hint(self, name: str) -> None:
        """Notes a field that cannot be honoured just now, though the target knows it: the answer is the same without."""
        if name not in self.hints:
            self.hints.append(name)

    def lose_extra(self, request: ChatRequest, known: frozenset[str] = frozenset()) -> None:
        """Notes every member that only the request's own dialect knows, but for the top-level ones in `known`, which the encoder honours.

        What is empty asks for nothing; nor does what is given anyway.
        """
        for name, raw in request.extra.items():
            if name not in known and not is_given(name, raw):
                self.lose(f"extra.{name}")
        for tool in request.tools:
            if isinstance(tool, FunctionTool):
                self.lose_members(tool.extra, "tools")
        for message in request.messages:
            if message.extra:
                self.lose_members(message.extra, "messages")
            for part in message.parts:
                if part.extra:
                    self.lose_members(part.extra, "messages")

    def lose_members(self, extra: Mapping[str, Raw], where: str) -> None:
        """Notes what was kept of an object that has no place, by its full name where it stood in an object of a known name."""
        for name, raw in extra.items():
            if is_empty(read(raw, object, name)):
                continue
            if name == "function" and bytes(raw).lstrip().startswith(b"{"):  # of a call or tool: what Fields.keep left of it
                self.lose_members(read(raw, dict[str, Raw], name), f"{where}.{name}")
            else:
                self.lose(f"{where}.{name}")
