"""OpenAI chat requests: what is wrong is named by its path, and what is right comes out again, known or not."""

import json
from typing import Any

import msgspec
import pytest

from contract import requests as r
from contract.errors import InvalidRequest, UnsupportedField
from contract.usage import Usage
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.openai_chat.usage import decode_usage, encode_usage
from tests.providers.wires.chat_requests import CALL, PIXEL, REQUESTS, USER, WEATHER, image, request, same_meaning, text, user, with_usage


def decode(body: object) -> r.ChatRequest:
    return OPENAI_CHAT.decode_request(json.dumps(body).encode())


def encode(chat: r.ChatRequest, model: str | None = None) -> bytes:
    losses = Losses()
    body = OPENAI_CHAT.encode_request(chat, model or chat.model, Facts(), losses)
    assert losses.fatal == losses.hints == []
    return body


def encoded(chat: r.ChatRequest) -> Any:
    return json.loads(encode(chat))


def call(**function: Any) -> dict[str, Any]:
    return request({"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": function}]})


WRONG: list[tuple[object, str | None]] = [
    ([], None),
    ("text", None),
    (5, None),
    ({"messages": [USER]}, "model"),
    ({"model": None, "messages": [USER]}, "model"),
    ({"model": 5, "messages": [USER]}, "model"),
    ({"model": "a"}, "messages"),
    ({"model": "a", "messages": {}}, "messages"),
    ({"model": "a", "messages": [5]}, "messages[0]"),
    (request(USER, {"content": "x"}), "messages[1].role"),
    (request({"role": 5, "content": "x"}), "messages[0].role"),
    (request({"role": "wizard", "content": "x"}), "messages[0].role"),
    (request({"role": "user"}), "messages[0].content"),
    (request({"role": "user", "content": None}), "messages[0].content"),
    (request({"role": "user", "content": 5}), "messages[0].content"),
    (request({"role": "user", "content": {}}), "messages[0].content"),
    (request({"role": "user", "content": "x", "name": 5}), "messages[0].name"),
    (request(user(5)), "messages[0].content[0]"),
    (request(user({"text": "x"})), "messages[0].content[0].type"),
    (request(user({"type": "hologram"})), "messages[0].content[0].type"),
    (request(user({"type": "text"})), "messages[0].content[0].text"),
    (request(user({"type": "text", "text": 5})), "messages[0].content[0].text"),
    (request(user(text("x"), {"type": "image_url"})), "messages[0].content[1].image_url"),
    (request(user(text("x"), {"type": "image_url", "image_url": "http://x"})), "messages[0].content[1].image_url"),
    (request(user(text("x"), {"type": "image_url", "image_url": {}})), "messages[0].content[1].image_url.url"),
    (request(user(text("x"), {"type": "image_url", "image_url": {"url": 5}})), "messages[0].content[1].image_url.url"),
    (request(user(image("http://x", detail=5))), "messages[0].content[0].image_url.detail"),
    (request(user({"type": "input_audio", "input_audio": {"format": "wav"}})), "messages[0].content[0].input_audio.data"),
    (request(user({"type": "input_audio", "input_audio": {"data": "A", "format": 1}})), "messages[0].content[0].input_audio.format"),
    (request(user({"type": "file", "file": {"file_data": 1}})), "messages[0].content[0].file.file_data"),
    (request(user({"type": "file", "file": []})), "messages[0].content[0].file"),
    (request({"role": "tool", "content": "x"}), "messages[0].tool_call_id"),
    (request({"role": "tool", "tool_call_id": 5, "content": "x"}), "messages[0].tool_call_id"),
    (request({"role": "tool", "tool_call_id": "c", "content": [{"type": "refusal", "refusal": "x"}]}), "messages[0].content"),
    (request({"role": "assistant", "tool_calls": {}}), "messages[0].tool_calls"),
    (request({"role": "assistant", "tool_calls": [5]}), "messages[0].tool_calls[0]"),
    (request({"role": "assistant", "tool_calls": [{"function": {}}]}), "messages[0].tool_calls[0].id"),
    (request({"role": "assistant", "tool_calls": [CALL, {"id": "c"}]}), "messages[0].tool_calls[1].function"),
    (request({"role": "assistant", "tool_calls": [{"id": "c", "type": "custom"}]}), "messages[0].tool_calls[0].custom"),
    (call(arguments="{}"), "messages[0].tool_calls[0].function.name"),
    (call(name="x", arguments={}), "messages[0].tool_calls[0].function.arguments"),
    (request({"role": "assistant", "reasoning_content": 5}), "messages[0].reasoning_content"),
    (request({"role": "assistant", "refusal": 5}), "messages[0].refusal"),
    (request({"role": "assistant", "audio": {}}), "messages[0].audio.id"),
    (request(tools={}), "tools"),
    (request(tools=[5]), "tools[0]"),
    (request(tools=[WEATHER, {"type": "function"}]), "tools[1].function"),
    (request(tools=[{"type": "function", "function": {}}]), "tools[0].function.name"),
    (request(tools=[{"type": "function", "function": {"name": "x", "strict": "yes"}}]), "tools[0].function.strict"),
    (request(tools=[{"type": 5}]), "tools[0].type"),
    (request(tool_choice="any"), "tool_choice"),
    (request(tool_choice=[]), "tool_choice"),
    (request(tool_choice={"type": "function"}), "tool_choice.function"),
    (request(tool_choice={"type": "function", "function": {"name": 5}}), "tool_choice.function.name"),
    (request(response_format="json"), "response_format"),
    (request(response_format={}), "response_format.type"),
    (request(response_format={"type": "json_schema"}), "response_format.json_schema"),
    (request(response_format={"type": "json_schema", "json_schema": {}}), "response_format.json_schema.name"),
    (request(response_format={"type": "json_schema", "json_schema": {"name": "x", "strict": 1}}), "response_format.json_schema.strict"),
    (request(stop=5), "stop"),
    (request(stop=["a", 5]), "stop[1]"),
    (request(stream="yes"), "stream"),
    (request(stream_options=[]), "stream_options"),
    (request(stream_options={"include_usage": 1}), "stream_options.include_usage"),
    (request(max_tokens="5"), "max_tokens"),
    (request(max_completion_tokens=5.5), "max_completion_tokens"),
    (request(temperature="hot"), "temperature"),
    (request(seed="x"), "seed"),
    (request(logit_bias=[]), "logit_bias"),
    (request(metadata=[]), "metadata"),
    (request(parallel_tool_calls=1), "parallel_tool_calls"),
    (request(reasoning_effort=5), "reasoning_effort"),
    (request(user=5), "user"),
]


@pytest.mark.parametrize(("body", "param"), WRONG, ids=[f"{n} {param}" for n, (_, param) in enumerate(WRONG)])
def test_a_wrong_field_is_named_by_its_path(body: object, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(body)
    assert caught.value.param == param
    assert param is None or f"`{param}" in caught.value.message


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b'{"model":"a","messages":[', b'{"model":"\xff","messages":[]}', b"[" * 100_000])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        OPENAI_CHAT.decode_request(body)


@pytest.mark.parametrize("kind", ["video_url", "document_url", "x" * 1000])
def test_a_part_that_nobody_knows_is_unsupported_rather_than_wrong(kind: str) -> None:
    with pytest.raises(UnsupportedField) as caught:
        decode(request(user({"type": kind})))
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("body", REQUESTS.values(), ids=REQUESTS)
def test_a_request_means_the_same_after_decoding_and_encoding(body: dict[str, Any]) -> None:
    assert same_meaning(encoded(decode(body))) == same_meaning(body)


@pytest.mark.parametrize("body", REQUESTS.values(), ids=REQUESTS)
def test_decoding_what_was_encoded_gives_the_same_request(body: dict[str, Any]) -> None:
    chat = decode(body)
    assert OPENAI_CHAT.decode_request(encode(chat)) == with_usage(chat)


def test_the_target_s_model_is_set() -> None:
    assert json.loads(encode(decode(request()), "other"))["model"] == "other"


LEVELS = {
    "request": request(new=1, newer={"é": [{}]}),
    "message": request({**USER, "new": [1, 2]}),
    "assistant": request({"role": "assistant", "content": "x", "reasoning_details": [{"a": 1}]}),
    "tool message": request({"role": "tool", "tool_call_id": "c", "content": "x", "is_error": True}),
    "text part": request(user(text("x", new=1))),
    "image part": request(user({**image(PIXEL), "new": 1})),
    "image": request(user(image(PIXEL, min_pixels=5))),
    "audio": request(user({"type": "input_audio", "input_audio": {"data": "A", "format": "wav", "new": 1}, "newer": 2})),
    "file": request(user({"type": "file", "file": {"file_id": "f", "new": 1}, "newer": 2})),
    "tool call": request({"role": "assistant", "tool_calls": [{**CALL, "extra_content": {"google": {"thought_signature": "x"}}}]}),
    "called function": call(name="x", arguments="", new=1),
    "custom call": request(
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "n", "input": "", "new": 1}, "x": 2}]}
    ),
    "tool": request(tools=[{**WEATHER, "eager_input_streaming": True}]),
    "function": request(tools=[{"type": "function", "function": {"name": "x", "new": {"deep": 1}}}]),
    "stream options": request(stream=True, stream_options={"include_usage": True, "new": 1}),
    "response format": request(response_format={"type": "json_object", "new": 1}),
    "json schema": request(response_format={"type": "json_schema", "new": 2, "json_schema": {"name": "x", "new": 1}}),
}


@pytest.mark.parametrize("body", LEVELS.values(), ids=LEVELS)
def test_what_nobody_knows_is_kept_in_its_place(body: dict[str, Any]) -> None:
    kept = encoded(decode(body))
    assert same_meaning(kept) == same_meaning(body)


def test_a_field_that_is_not_known_is_sent_as_the_bytes_it_was() -> None:
    body = b'{"model":"a","messages":[],"new":{ "b":1.0e1, "a":"\\u00e9" }}'
    assert b'"new":{ "b":1.0e1, "a":"\\u00e9" }' in encode(OPENAI_CHAT.decode_request(body), "a")


def test_known_fields_are_where_other_dialects_look_for_them() -> None:
    chat = decode(
        request(
            user(image(PIXEL, detail="low")),
            {"role": "assistant", "reasoning_content": "hm", "content": "x", "tool_calls": [CALL]},
            max_tokens=5,
            stop="s",
        )
    )
    assert chat.messages[0].parts == (r.ImagePart(data="iVBORw0KGgo=", media_type="image/png", detail="low"),)
    assert [type(part) for part in chat.messages[1].parts] == [r.ReasoningPart, r.TextPart, r.ToolCallPart]
    assert (chat.max_output_tokens, chat.stop, chat.extra) == (5, ("s",), {})


def test_the_new_name_of_the_limit_goes_before_the_old() -> None:
    assert decode(request(max_tokens=5, max_completion_tokens=7)).max_output_tokens == 7


@pytest.mark.parametrize("part", [r.ToolResultPart(tool_call_id="c", content=()), r.ReasoningPart(text="x")])
def test_a_part_with_a_place_of_its_own_is_not_put_into_content(part: r.Part) -> None:
    body = encoded(r.ChatRequest(model="a", messages=(r.Message(role="assistant", parts=(part,)),)))
    assert not body["messages"][0]["content"]


# --- usage -----------------------------------------------------------------------------------------------------------
USAGES: list[tuple[dict[str, Any], Usage]] = [
    (
        {"prompt_tokens": 90, "completion_tokens": 20, "prompt_tokens_details": {"image_tokens": 70}, "num_search_queries": 2},
        Usage(input_uncached=20, image_input=70, output_visible=20, web_searches=2),
    ),
    (
        {
            "prompt_tokens": 9,
            "completion_tokens": 20,
            "completion_tokens_details": {"image_tokens": 15},
            "server_tool_use": {"web_search_requests": 1},
        },
        Usage(input_uncached=9, output_visible=5, image_output=15, web_searches=1),
    ),
    (  # xAI's, where reasoning is beside what is completed
        {
            "prompt_tokens": 32,
            "completion_tokens": 9,
            "total_tokens": 135,
            "prompt_tokens_details": {"text_tokens": 32, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 6},
            "completion_tokens_details": {"reasoning_tokens": 94, "audio_tokens": 0},
            "num_sources_used": 2,
        },
        Usage(input_uncached=26, cache_read=6, audio_input=0, image_input=0, output_visible=9, reasoning=94, audio_output=0, server_tool_calls=2),
    ),
    ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}, Usage(input_uncached=9, output_visible=4)),
    (
        {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}},
        Usage(input_uncached=4, cache_read=5, output_visible=4),
    ),
    ({"prompt_tokens": 9, "completion_tokens": 0}, Usage(input_uncached=9, output_visible=0)),
    ({"prompt_tokens": 9}, Usage(input_uncached=9)),
    ({"completion_tokens": 4}, Usage(output_visible=4)),
    (
        {
            "prompt_tokens": 90,
            "completion_tokens": 40,
            "prompt_tokens_details": {"cached_tokens": 50, "cache_write_tokens": 10, "audio_tokens": 5, "text_tokens": 25},
            "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 2, "accepted_prediction_tokens": 0},
        },
        Usage(input_uncached=25, cache_read=50, cache_write_5m=10, audio_input=5, output_visible=8, reasoning=30, audio_output=2),
    ),
    (
        {"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 6, "prompt_cache_miss_tokens": 3},
        Usage(input_uncached=3, cache_read=6, output_visible=4),
    ),
    (
        {"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 6, "prompt_tokens_details": {"cached_tokens": 5}},
        Usage(input_uncached=4, cache_read=5, output_visible=4),
    ),
    (
        {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": None, "completion_tokens_details": None},
        Usage(input_uncached=9, output_visible=4),
    ),
    (
        {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {}, "completion_tokens_details": {"reasoning_tokens": None}},
        Usage(input_uncached=9, output_visible=4),
    ),
    (
        {"prompt_tokens": 9, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 0}},
        Usage(input_uncached=9, output_visible=4, reasoning=0),
    ),
    (
        {"prompt_tokens": 9, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 7}},
        Usage(input_uncached=9, output_visible=4, source="estimated"),
    ),
    ({"prompt_tokens": -5, "completion_tokens": 4}, Usage(output_visible=4)),
    ({}, Usage()),
]


@pytest.mark.parametrize(("given", "wanted"), USAGES, ids=[str(given)[:100] for given, _ in USAGES])
def test_usage_is_taken_apart_and_kept_as_it_came(given: dict[str, Any], wanted: Usage) -> None:
    raw = json.dumps(given).encode()
    assert decode_usage(msgspec.Raw(raw)) == msgspec.structs.replace(wanted, raw=msgspec.Raw(raw))


@pytest.mark.parametrize("given", [b"5", b'"x"', b"[]", b'{"prompt_tokens":"9"}', b'{"prompt_tokens":1.5}', b'{"prompt_tokens_details":[]}'])
def test_usage_of_another_shape_is_kept_and_nothing_is_known_of_it(given: bytes) -> None:
    assert decode_usage(msgspec.Raw(given)) == Usage(raw=msgspec.Raw(given))


@pytest.mark.parametrize("given", [given for given, wanted in USAGES if wanted.output_total and wanted.input_total])
def test_usage_sums_are_the_same_after_decoding_and_encoding(given: dict[str, Any]) -> None:
    again = encode_usage(decode_usage(msgspec.Raw(json.dumps(given).encode())))
    thought = (given.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    apart = given.get("total_tokens") == given["prompt_tokens"] + given["completion_tokens"] + thought
    over = thought if apart else 0
    assert again["prompt_tokens"] == given["prompt_tokens"] and again["completion_tokens"] == given["completion_tokens"] + over
    assert again["total_tokens"] == again["prompt_tokens"] + again["completion_tokens"]


def test_unknown_usage_is_no_detail() -> None:
    assert encode_usage(Usage(input_uncached=3)) == {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
