"""OpenAI chat requests as clients send them, and when two of them mean the same."""

from typing import Any

from msgspec.structs import replace

from contract import requests as r

USER = {"role": "user", "content": "Hi"}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Ört \u2028"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather", "parameters": SCHEMA, "strict": True}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Brescia"}'}}
CUSTOM_CALL = {"id": "call_2", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def request(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-5", "messages": list(messages) or [USER], **more}


def user(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts), **more}


def text(value: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **more}


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def same_meaning(body: Any) -> Any:
    """One form for what means the same: null and absent, one text and an array of it, `max_tokens` and its new name, the defaults."""
    body = _in_new_form(_without_nulls(body))
    for message in body["messages"]:
        if message.get("content") in ([], ""):
            del message["content"]
        match message.get("content"):
            case [{"type": "text", "text": str(only), **rest}] if not rest:
                message["content"] = only
    if isinstance(body.get("stop"), str):
        body["stop"] = [body["stop"]]
    if "max_tokens" in body:
        body.setdefault("max_completion_tokens", body.pop("max_tokens"))
    for tool in body.get("tools", ()):
        tool.setdefault("type", "function")
    if isinstance(body.get("tool_choice"), dict):
        body["tool_choice"].setdefault("type", "function")
    if body.get("stream"):
        body.setdefault("stream_options", {})["include_usage"] = True
    for name in ("tools", "stop", "metadata", "stream", "stream_options"):
        if body.get(name) in ([], {}, False):
            del body[name]
    return body


def _in_new_form(body: dict[str, Any]) -> dict[str, Any]:
    """Tools, for what came before them: functions, whose calls have no id but their message's place and their name."""
    called: dict[str, str] = {}
    for place, message in enumerate(body["messages"]):
        if call := message.pop("function_call", None):
            called[call["name"]] = f"call_{place}_{call['name']}"
            message["tool_calls"] = [{"id": called[call["name"]], "type": "function", "function": call}]
        if message["role"] == "function":
            message |= {"role": "tool", "tool_call_id": called.get(message["name"], message["name"])}
            del message["name"]
        if "reasoning" in message:
            message.setdefault("reasoning_content", message.pop("reasoning"))
    if "functions" in body:
        body["tools"] = body.get("tools", []) + [{"type": "function", "function": function} for function in body.pop("functions")]
    if (choice := body.pop("function_call", None)) is not None:
        body["tool_choice"] = choice if isinstance(choice, str) else {"type": "function", "function": choice}
    return body


def with_usage(chat: r.ChatRequest) -> r.ChatRequest:
    """As it is sent on: a stream is always asked to tell its usage, an answer that is no stream never."""
    return replace(chat, include_usage=chat.stream)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(member) for name, member in value.items() if member is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


SAMPLING = {"temperature": 0.2, "top_p": 1, "top_k": 40, "frequency_penalty": -0.5, "presence_penalty": 2, "seed": 7, "n": 2}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "weather"}}]}}
LEGACY = {"name": "weather", "description": "d", "parameters": SCHEMA}
MADE_CALL = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "22 °C"}
FILE = {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}}
REQUESTS: dict[str, dict[str, Any]] = {
    "plain": request(),
    "roles": request(
        {"role": "system", "content": "s"}, {"role": "developer", "content": [text("d")]}, {"role": "user", "content": "u", "name": "ann"}
    ),
    "sampling": request(**SAMPLING, logprobs=True, top_logprobs=5, logit_bias={"50256": -100, "1": 0.5}),
    "limits": request(max_completion_tokens=5, stop=["a", "b"]),
    "old limits": request(max_tokens=5, stop="a"),
    "nulls": request(**dict.fromkeys(("temperature", "stop", "tools", "tool_choice", "response_format", "stream", "user", "metadata", "seed"))),
    "stream": request(stream=True, stream_options={"include_usage": True, "include_obfuscation": False}),
    "stream options without usage": request(stream=True, stream_options={"include_obfuscation": False}),
    "images": request(
        user(text("see"), image("https://x.test/a.png", detail="low"), image(PIXEL), image("data:text/plain,x"), image("data:;base64,AA=="))
    ),
    "audio in": request(user({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}})),
    "audio out": request(modalities=["text", "audio"], audio={"voice": "ash", "format": "mp3"}),
    "audio of before": request(USER, {"role": "assistant", "audio": {"id": "audio_1", "x": 1}}, USER),
    "files": request(user(FILE, {"type": "file", "file": {"file_id": "file-1"}})),
    "tools": request(tools=[WEATHER, {"type": "function", "function": {"name": "bare"}}], tool_choice="auto", parallel_tool_calls=False),
    "tool without type": request(tools=[{"function": {"name": "bare"}}], tool_choice={"function": {"name": "bare"}}),
    "named tool": request(tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "weather"}}),
    "required tool": request(tools=[WEATHER], tool_choice="required"),
    "allowed tools": request(tools=[WEATHER], tool_choice=ALLOWED),
    "custom tool": request(
        tools=[{"type": "custom", "custom": {"name": "sql", "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "x"}}}}],
        tool_choice={"type": "custom", "custom": {"name": "sql"}},
    ),
    "custom call": request(
        USER, {"role": "assistant", "tool_calls": [CUSTOM_CALL, CALL]}, {"role": "tool", "tool_call_id": "call_2", "content": "1"}, RESULT
    ),
    "hosted tool": request(tools=[{"type": "web_search", "search_context_size": "low", "filters": None, "x": [1, 2]}]),
    "tool round": request(USER, MADE_CALL, RESULT, {"role": "assistant", "content": "It is warm", "refusal": None}, USER, tools=[WEATHER]),
    "tool result parts": request(USER, MADE_CALL, {"role": "tool", "tool_call_id": "call_1", "content": [text("22"), image(PIXEL)]}),
    "empty tool result": request(USER, MADE_CALL, {"role": "tool", "tool_call_id": "call_1", "content": ""}),
    "text beside calls": request(USER, {"role": "assistant", "content": "One moment", "tool_calls": [CALL]}, RESULT),
    "reasoning": request(USER, {"role": "assistant", "reasoning_content": "hm", "content": "42"}, USER, reasoning_effort="high"),
    "refusal": request(USER, {"role": "assistant", "content": None, "refusal": "No."}, USER),
    "legacy functions": request(
        USER,
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}},
        {"role": "function", "name": "weather", "content": "22 °C"},
        functions=[LEGACY],
        function_call="auto",
    ),
    "legacy result of nowhere": request({"role": "function", "name": "clock", "content": "noon"}, functions=[{**LEGACY, "x": 1}]),
    "legacy named function": request(functions=[LEGACY], function_call={"name": "weather"}),
    "format text": request(response_format={"type": "text"}),
    "format object": request(response_format={"type": "json_object"}),
    "format schema": request(
        response_format={"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA, "strict": True, "description": "d"}}
    ),
    "format schema, least": request(response_format={"type": "json_schema", "json_schema": {"name": "w"}}),
    "format grammar": request(response_format={"type": "grammar", "grammar": "root ::= x"}),
    "format regex": request(response_format={"type": "regex", "pattern": "\\d+"}),
    "metadata": request(
        metadata={"a": "b"}, user="ann", safety_identifier="s", prompt_cache_key="k", store=True, service_tier="flex", verbosity="low"
    ),
    "prediction": request(prediction={"type": "content", "content": "x"}, web_search_options={"user_location": None}),
    "cache control": request(user(text("long", cache_control={"type": "ephemeral"})), tools=[{**WEATHER, "cache_control": {"type": "ephemeral"}}]),
    "engine's own": request(min_p=0.1, guided_json=SCHEMA, chat_template_kwargs={"enable_thinking": False}, repetition_penalty=1.1),
}
