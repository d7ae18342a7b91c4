"""What real clients wrote to generateContent: what we encode for the same conversation has the same shape."""

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from contract import requests as r
from providers.wires.facts import Facts
from providers.wires.gemini import GEMINI
from providers.wires.losses import Losses

FOLDER = os.environ.get("TURNOUT_ACCEPTANCE")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="needs TURNOUT_ACCEPTANCE")
Json = dict[str, Any]
# what no field of the contract asks for: Google's own tools and their output, files at Google, settings of Google alone
OURS_NOT = re.compile(
    r'"(?:codeExecution|googleSearch|urlContext|fileSearch|toolCall|toolResponse|executableCode|fileData|thought|cachedContent'
    r'|safetySettings|modelArmorConfig|responseSchema|thinkingConfig)"|"VALIDATED"'
)


def camel(value: Any) -> Any:
    """Google takes both spellings of its own members; those of a client's data are left alone."""
    if isinstance(value, list):
        return [camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {re.sub(r"_([a-z])", lambda m: m[1].upper(), name): (name, member) for name, member in value.items()}
    return {n: m if n in ("args", "response", "parametersJsonSchema", "responseJsonSchema") else camel(m) for n, (_, m) in named.items()}


def recorded() -> list[tuple[str, str, Json]]:
    if FOLDER is None:
        return []
    with gzip.open(Path(FOLDER) / "visible.jsonl.gz", "rt") as lines:
        rows = [row for row in map(json.loads, lines) if row["op"] in ("gemini.generate", "gemini.stream") and row["response"]["status"] == 200]
    found = [(row["id"], row["request"]["path"], camel(row["request"]["body"])) for row in rows]
    return [(name, path, body) for name, path, body in found if not OURS_NOT.search(json.dumps(body)) and not is_old(body)]


def is_old(body: Json) -> bool:
    """Schemas in OpenAPI's words, as written before Google took JSON Schema."""
    return any("parameters" in function for tool in body.get("tools", ()) for function in tool["functionDeclarations"])


ROWS = recorded()


def raw(value: Any) -> Raw:
    return Raw(json.dumps(value).encode())


def part_of(part: Json) -> r.Part:
    if "text" in part:
        return r.TextPart(text=part["text"])
    if "inlineData" in part:
        return r.FilePart(data=part["inlineData"]["data"], media_type=part["inlineData"]["mimeType"])
    if "functionCall" in part:
        call = part["functionCall"]
        return r.ToolCallPart(
            id=call["id"], name=call["name"], arguments=json.dumps(call["args"]), signature=part.get("thoughtSignature"), maker="gemini"
        )
    told = part["functionResponse"]
    media = [r.FilePart(data=p["inlineData"]["data"], media_type=p["inlineData"]["mimeType"]) for p in told.get("parts", ()) if "inlineData" in p]
    return r.ToolResultPart(tool_call_id=told["id"], content=(r.TextPart(text=json.dumps(told["response"])), *media))


def conversation(body: Json) -> r.ChatRequest:
    settings, config = body.get("generationConfig", {}), body.get("toolConfig", {}).get("functionCallingConfig")
    messages = [r.Message(role="system", parts=tuple(map(part_of, body["systemInstruction"]["parts"])))] if "systemInstruction" in body else []
    for content in body["contents"]:
        parts = [piece for part in content["parts"] for piece in pieces(part)]
        messages.append(r.Message(role="assistant" if content["role"] == "model" else "user", parts=tuple(parts)))
    tools = [
        r.FunctionTool(name=f["name"], description=f.get("description"), parameters=raw(f["parametersJsonSchema"]))
        for tool in body.get("tools", ())
        for f in tool["functionDeclarations"]
    ]
    modes: Json = {"AUTO": "auto", "ANY": "required", "NONE": "none"}
    return r.ChatRequest(
        model="m",
        messages=tuple(messages),
        tools=tuple(tools),
        tool_choice=r.ToolChoice(mode=modes[config["mode"]]) if config else None,
        response_format=r.JsonSchemaFormat(name="n", schema=raw(settings["responseJsonSchema"])) if "responseJsonSchema" in settings else None,
        sampling=r.Sampling(
            temperature=settings.get("temperature"),
            top_k=settings.get("topK"),
            logprobs=settings.get("responseLogprobs"),
            top_logprobs=settings.get("logprobs"),
        ),
        max_output_tokens=settings.get("maxOutputTokens"),
    )


def pieces(part: Json) -> list[r.Part]:
    """A text's signature is a part of its own in the contract."""
    if "text" in part and "thoughtSignature" in part:
        return [part_of(part), r.ReasoningPart(signature=part["thoughtSignature"], maker="gemini")]
    return [part_of(part)]


def plain(body: Json) -> Json:
    """The same with neighbours of one role merged, and without what says nothing: the instruction's role, the usual modality."""
    contents: list[Json] = []
    for content in body["contents"]:
        if contents and contents[-1]["role"] == content["role"]:
            contents[-1]["parts"] += content["parts"]
        else:
            contents.append({"role": content["role"], "parts": list(content["parts"])})
    settings = {name: value for name, value in body.get("generationConfig", {}).items() if name != "responseModalities"}
    if "responseJsonSchema" not in settings:
        settings.pop("responseMimeType", None)
    config = {name: value for name, value in body.get("toolConfig", {}).get("functionCallingConfig", {}).items() if name != "allowedFunctionNames"}
    system = body.get("systemInstruction", {}).get("parts")
    return {"contents": contents, "generationConfig": settings, "tools": body.get("tools"), "config": config, "system": system}


def test_there_are_requests() -> None:
    assert len(ROWS) > 100


@pytest.mark.parametrize("row", ROWS, ids=[f"{name} {path.rpartition('/')[2]}" for name, path, _ in ROWS])
def test_a_recorded_request_is_encoded_in_the_shape_that_its_client_gave_it(row: tuple[str, str, Json]) -> None:
    _, path, body = row
    losses = Losses()
    model = path.rpartition("/")[2].partition(":")[0]
    assert plain(json.loads(GEMINI.encode_request(conversation(body), model, Facts(), losses))) == plain(body)
    assert losses.fatal == losses.hints == []
    assert path.endswith(GEMINI.path(model, "stream" in path))
