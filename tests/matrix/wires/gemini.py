"""Google's generateContent: its request read, its answers written."""

import json

from tests.matrix import said
from tests.matrix.said import USAGE, Asked, Json, Script, sse

NAME, MODEL = "gemini", "gemini-3-pro"
PROVIDER = 'kind: gemini, base_url: "{url}/v1beta", api_key: k'
STREAM_TYPE = "text/event-stream"
ABSENT = {"refusal": "the provider's answers have no refusal"}
COUNTS = USAGE
_FINISHES = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
_SAMPLING = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "seed": "seed",
    "candidateCount": "n",
    "frequencyPenalty": "frequency_penalty",
}
_MODES = {"AUTO": "auto", "NONE": "none", "ANY": "required"}


def read(body: Json) -> Asked:
    generation = body.get("generationConfig") or {}
    asked = Asked(stop=generation.get("stopSequences") or [], max_tokens=generation.get("maxOutputTokens"))
    asked.system = [part["text"] for part in (body.get("systemInstruction") or {}).get("parts", ())]
    for content in body["contents"]:
        for part in content["parts"]:
            _part(asked, "assistant" if content["role"] == "model" else "user", part)
    tools = [declared for tool in body.get("tools") or () for declared in tool["functionDeclarations"]]
    asked.tools = [(tool["name"], tool.get("description", ""), tool["parametersJsonSchema"]) for tool in tools]
    config = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    asked.choice = f"named:{config['allowedFunctionNames'][0]}" if "allowedFunctionNames" in config else _MODES.get(config.get("mode", ""))
    asked.reasoning = bool((generation.get("thinkingConfig") or {}).get("includeThoughts"))
    asked.schema = generation.get("responseJsonSchema")
    asked.json = generation.get("responseMimeType") == "application/json"
    asked.sampling = {ours: generation[theirs] for theirs, ours in _SAMPLING.items() if theirs in generation}
    asked.logprobs = generation.get("responseLogprobs") is True
    asked.unknown = said.UNKNOWN in body
    return asked


def _part(asked: Asked, role: str, part: Json) -> None:
    if "text" in part and not part.get("thought") and part["text"]:
        asked.turns.append((role, part["text"]))
    if (inline := part.get("inlineData")) is not None:
        {"image": asked.images, "audio": asked.audio}.get(inline["mimeType"].partition("/")[0], asked.files).append(inline["data"])
    if (file := part.get("fileData")) is not None:
        (asked.image_urls if file["mimeType"].startswith("image/") else asked.file_urls).append(file["fileUri"])
    if (call := part.get("functionCall")) is not None:
        asked.calls.append((call["name"], call["args"]))
    if (result := part.get("functionResponse")) is not None:
        asked.results.append((result["name"], str(next(iter(result["response"].values()), ""))))
        for inner in result.get("parts", ()):
            _part(asked, role, inner)
        asked.errors += "error" in result["response"]
    if "thoughtSignature" in part:
        asked.signatures.append(part["thoughtSignature"])


def _parts(script: Script) -> list[Json]:
    parts: list[Json] = [{"text": text, "thought": True} for text in script.reasoning]
    parts += [{"text": text} for text in script.text]
    signature = {"thoughtSignature": script.signature} if script.signature else {}
    for index, call in enumerate(script.calls):
        told = {"functionCall": {"name": call.name, "args": json.loads(call.arguments or "{}")}}
        parts.append({**told, **signature} if index == 0 else told)
    return parts


def _candidate(parts: list[Json], index: int = 0, **more: object) -> Json:
    return {"index": index, "content": {"role": "model", "parts": parts}, **more}


def _last(script: Script) -> Json:
    told: Json = {"finishReason": _FINISHES[script.finish]}
    if script.citation:
        url, title = script.citation
        support = {"segment": {"startIndex": 0, "endIndex": 5, "text": "Hello"}, "groundingChunkIndices": [0]}
        told["groundingMetadata"] = {"groundingChunks": [{"web": {"uri": url, "title": title}}], "groundingSupports": [support]}
    if script.logprobs:
        told["logprobsResult"] = {"chosenCandidates": [{"token": text, "logProbability": -0.1} for text in script.text]}
    return told


def _answer(candidates: list[Json]) -> Json:
    usage = {"promptTokenCount": 100, "cachedContentTokenCount": 40, "candidatesTokenCount": 20, "thoughtsTokenCount": 10, "totalTokenCount": 130}
    return {"responseId": "r-1", "modelVersion": MODEL, "candidates": candidates, "usageMetadata": usage}


def _second(script: Script) -> list[Json]:
    return [_candidate([{"text": script.second}], 1, finishReason="STOP")] if script.second else []


def unary(script: Script) -> bytes:
    return json.dumps(_answer([_candidate(_parts(script), **_last(script)), *_second(script)])).encode()


def stream(script: Script) -> bytes:
    pieces = [_answer([_candidate([part])]) for part in _parts(script)]
    return sse([*pieces, *(_answer([each]) for each in _second(script)), _answer([_candidate([], **_last(script))])])
