"""The features: what the provider must have been asked, what it answers, and what the client must have got of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from tests.matrix import said
from tests.matrix.said import Asked, Got, Script

_HELLO = Script()


@dataclass(frozen=True)
class Feature:
    """`asked`, `got`: the feature in the request as the provider got it, and in the answer as the client did."""

    name: str
    title: str
    asked: Callable[[Asked], object] = lambda asked: True
    script: Script = _HELLO
    got: Callable[[Got], object] = lambda got: True


def _calls(*calls: said.Call) -> Callable[[Got], object]:
    wanted = [(call.name, json.loads(call.arguments or "{}")) for call in calls]
    return lambda got: got.finish == "tool_calls" and [(name, json.loads(text or "{}")) for name, text in got.calls] == wanted


def _called(*calls: said.Call) -> Script:
    return Script(text=(), calls=calls, finish="tool_calls")


def _tool(asked: Asked) -> object:
    return asked.tools[:1] == [said.TOOL]


def _named(asked: Asked) -> object:
    """By its name, or as the only one, of which one must be called."""
    return asked.choice == "named:weather" or (asked.choice == "required" and asked.tools == [said.TOOL])


_HISTORY = [("weather", {"city": "Paris"})]
_TEXT = "Hello there"
FEATURES = [
    Feature("text", "text", lambda a: a.turns == [("user", "Hi")], got=lambda g: g.finish == "stop"),
    Feature("system", "system prompt", lambda a: a.system == ["Be brief"] and a.turns == [("user", "Hi")]),
    Feature("turns", "several turns", lambda a: a.turns == [("user", "Hi"), ("assistant", "Yes?"), ("user", "Go on")]),
    Feature("image", "image, base64", lambda a: a.images == [said.PNG]),
    Feature("image_url", "image by URL", lambda a: a.image_urls == [said.PICTURE_URL]),
    Feature("file", "PDF, base64", lambda a: a.files == [said.PDF]),
    Feature("file_url", "PDF by URL", lambda a: a.file_urls == [said.FILE_URL]),
    Feature("audio", "audio, base64", lambda a: a.audio == [said.WAV]),
    Feature("prefill", "an answer begun", lambda a: a.turns == [("user", "Hi"), ("assistant", "Yes")]),
    Feature("tool_call", "tool and its call", _tool, _called(said.PARIS), _calls(said.PARIS)),
    Feature("parallel_calls", "parallel tool calls", _tool, _called(said.PARIS, said.TOKYO), _calls(said.PARIS, said.TOKYO)),
    Feature("empty_arguments", "call with empty arguments", lambda a: said.OTHER_TOOL in a.tools, _called(said.NOTHING), _calls(said.NOTHING)),
    Feature(
        "text_and_call",
        "text, then a call",
        _tool,
        Script(calls=(said.PARIS,), finish="tool_calls"),
        lambda g: g.text == _TEXT and _calls(said.PARIS)(g),
    ),
    Feature("tool_result", "tool result", lambda a: a.calls == _HISTORY and a.results == [("weather", "Sunny")]),
    Feature("tool_error", "tool result that is an error", lambda a: a.results == [("weather", "Sunny")] and a.errors == 1),
    Feature("result_image", "image in a tool result", lambda a: a.calls == _HISTORY and a.images == [said.PNG]),
    Feature("choice_required", "tool choice: required", lambda a: a.choice == "required", _called(said.PARIS), _calls(said.PARIS)),
    Feature("choice_named", "tool choice: named", _named, _called(said.PARIS), _calls(said.PARIS)),
    Feature("choice_none", "tool choice: none", lambda a: a.choice == "none" or not a.tools),
    Feature("parallel_off", "parallel calls off", lambda a: a.parallel is False, _called(said.PARIS), _calls(said.PARIS)),
    Feature("reasoning", "reasoning", lambda a: a.reasoning, Script(reasoning=("Let me", " think")), lambda g: g.reasoning == "Let me think"),
    Feature(
        "signature",
        "reasoning's signature and back",
        lambda a: a.signatures == [said.SIGNATURE],
        Script(text=(), reasoning=("Let me", " think"), signature=said.SIGNATURE, calls=(said.PARIS,), finish="tool_calls"),
        _calls(said.PARIS),
    ),
    Feature("json_schema", "JSON schema", lambda a: a.schema == said.SCHEMA),
    Feature("json_mode", "JSON mode", lambda a: a.json),
    Feature("stop", "stop sequences", lambda a: a.stop == ["END"]),
    Feature("max_tokens", "most tokens, and hit", lambda a: a.max_tokens == 77, Script(finish="length"), lambda g: g.finish == "length"),
    Feature("filtered", "content filter", script=Script(finish="content_filter"), got=lambda g: g.finish == "content_filter"),
    Feature("refusal", "refusal", script=Script(text=(), refusal="I will not"), got=lambda g: g.refusal == "I will not"),
    Feature("citations", "citations", script=Script(citation=said.CITATION), got=lambda g: g.citations == [said.CITATION]),
    Feature("logprobs", "log probabilities", lambda a: a.logprobs, Script(logprobs=True), lambda g: "".join(g.logprobs) == _TEXT),
    Feature("n", "two choices", lambda a: a.sampling.get("n") == 2, Script(second="Other"), lambda g: g.text == _TEXT and g.second == "Other"),
    Feature("seed", "seed", lambda a: a.sampling.get("seed") == 7),
    Feature("temperature", "temperature", lambda a: a.sampling.get("temperature") == 0.5),
    Feature("top_p", "top_p", lambda a: a.sampling.get("top_p") == 0.75),
    Feature("top_k", "top_k", lambda a: a.sampling.get("top_k") == 20),
    Feature("penalty", "frequency penalty", lambda a: a.sampling.get("frequency_penalty") == 0.5),
    Feature("cache_control", "cache_control", lambda a: a.cached == 1),
    Feature("usage", "usage in the client's terms"),
    Feature("user", "user", lambda a: a.user == "u-1"),
    Feature("metadata", "metadata", lambda a: a.metadata == {"case": "42"}),
    Feature("unknown", "unknown field", lambda a: a.unknown),
]
