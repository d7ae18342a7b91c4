"""Legacy completion requests to `ChatRequest`: the prompt becomes a user's message. What chat cannot do is kept, for encoders to tell.

Fields: https://platform.openai.com/docs/api-reference/completions/create.
"""

from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from contract import requests as r
from contract.errors import UnsupportedField
from providers.wires.fields import Fields

NAME = "openai_completions"
DEFAULT_MAX_TOKENS = 16  # the API's own
_SAMPLING: dict[str, Any] = {
    "temperature": float,
    "top_p": float,
    "frequency_penalty": float,
    "presence_penalty": float,
    "seed": int,
    "logit_bias": dict[str, float],
}
_ONLY_HERE: dict[str, Any] = {"suffix": str, "echo": bool, "best_of": int}


def decode_request(body: bytes) -> r.ChatRequest:
    """Raises InvalidRequest, or UnsupportedField for prompts that only a completions API can take."""
    fields = Fields(Raw(body), "")
    model, prompt, n = fields.need("model", str), _prompt(fields.need("prompt", Raw)), fields.take("n", int)
    nothing = {"best_of": n or 1}  # as many made as are given back
    for name, kind in _ONLY_HERE.items():
        if (value := fields.take(name, kind)) and value != nothing.get(name):
            fields.put_back(name, Raw(msgspec.json.encode(value)))
    alternatives = fields.take("logprobs", int)
    stop = fields.take("stop", str | list[str])
    options = fields.take("stream_options", dict[str, Raw]) or {}
    limit = fields.take("max_tokens", int)
    return r.ChatRequest(
        dialect=NAME,
        model=model,
        messages=(r.Message(role="user", parts=(r.TextPart(text=prompt),)),),
        sampling=r.Sampling(
            **{name: fields.take(name, kind) for name, kind in _SAMPLING.items()},
            n=n,
            logprobs=None if alternatives is None else True,
            top_logprobs=alternatives or None,
        ),
        max_output_tokens=DEFAULT_MAX_TOKENS if limit is None else limit,
        stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        user=fields.take("user", str),
        stream=bool(fields.take("stream", bool)),
        include_usage=bytes(options.get("include_usage", b"")) == b"true",
        extra=fields.rest(),
    )


def _prompt(raw: Raw) -> str:
    fields = Fields(Raw(b'{"prompt":%b}' % bytes(raw)), "")
    if bytes(raw)[:1] == b'"':
        return str(fields.need("prompt", str))
    several = fields.need("prompt", list[Any])
    if len(several) == 1 and isinstance(several[0], str):
        return several[0]
    raise UnsupportedField("`prompt`: several prompts, or token ids, need a provider with a completions API", param="prompt")


def begun(request: r.ChatRequest, answered: str) -> r.ChatRequest:
    """As a chat target is asked: of the one prompt, what was answered already is the assistant's."""
    (message,) = request.messages
    (part,) = message.parts
    if not isinstance(part, r.TextPart):
        raise TypeError("a completion's prompt is a text")
    asked = r.Message(role="user", parts=(r.TextPart(text=part.text.removesuffix(answered)),))
    return replace(request, messages=(asked, r.Message(role="assistant", parts=(r.TextPart(text=answered),))))
