"""Requests in Bedrock's format: what Amazon's own model of its API takes, and nothing of the client's lost unsaid."""

import json
from base64 import b64encode
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from contract import requests as r
from contract.errors import TargetCannot
from providers.wires.bedrock import BEDROCK
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from tests.providers.wires.bedrock_oracle import faults
from tests.providers.wires.bedrock_requests import (
    CACHED,
    CLAUDE,
    HI,
    HOUR,
    NOVA,
    PIXEL,
    POINT,
    SCHEMA,
    WEATHER,
    Json,
    encoded,
    lost,
    says,
    text,
    turns,
)

WRONG = [
    {"messages": [{"role": "user"}]},
    {"messages": [], "more": 1},
    {"messages": [{"role": "tool", "content": []}]},
    {"messages": [{"role": "user", "content": [{"text": "a", "cachePoint": {"type": "default"}}]}]},
    {"messages": [{"role": "user", "content": [{"toolUse": {"toolUseId": "a b", "name": "n", "input": {}}}]}]},
    {"messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": ""}}}]}]},
    {"inferenceConfig": {"temperature": 1.5}},
    {"toolConfig": {"tools": []}},
]


@pytest.mark.parametrize("body", WRONG)
def test_the_judge_of_requests_finds_what_is_wrong(body: Json) -> None:
    assert faults("Converse", body)


def test_a_text_is_a_block() -> None:
    assert encoded() == {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}


def test_system_and_developer_texts_stand_apart_in_their_order() -> None:
    body = encoded(says("system", "One"), HI, says("developer", "Two", text("Three", cache_control=CACHED)))
    assert body["system"] == [{"text": "One"}, {"text": "Two"}, {"text": "Three"}, POINT]
    assert turns(body) == [("user", [{"text": "Hi"}])]


def test_an_image_in_the_system_is_told() -> None:
    assert lost(says("system", "See", r.ImagePart(data=PIXEL, media_type="image/png")), HI) == ["messages.image"]


def test_neighbours_of_one_role_are_one_turn() -> None:
    body = encoded(HI, says("user", "there"), says("assistant", "A"), says("assistant", "B"), says("user", "C"))
    assert turns(body) == [("user", [{"text": "Hi"}, {"text": "there"}]), ("assistant", [{"text": "A"}, {"text": "B"}]), ("user", [{"text": "C"}])]


def test_blank_texts_are_left_out() -> None:
    assert turns(encoded(says("user", "", "Hi", "\n "), says("assistant", ""), says("user", "there"))) == [
        ("user", [{"text": "Hi"}, {"text": "there"}])
    ]


def test_a_request_that_says_nothing_is_refused() -> None:
    with pytest.raises(TargetCannot) as refused:
        encoded(says("user", ""))
    assert refused.value.param == "messages"


def test_limits_and_stops_are_the_inference_configuration() -> None:
    sampling = r.Sampling(temperature=0.5, top_p=0.9)
    body = encoded(sampling=sampling, max_output_tokens=100, stop=("END", "\n"))
    assert body["inferenceConfig"] == {"maxTokens": 100, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END", "\n"]}


def test_claude_is_asked_which_stop_sequence_it_met() -> None:
    assert encoded(model=CLAUDE, stop=("END",))["additionalModelResponseFieldPaths"] == ["/stop_sequence"]
    assert "additionalModelResponseFieldPaths" not in encoded(model=CLAUDE)


def test_a_temperature_above_the_highest_is_told_and_bounded() -> None:
    losses = Losses()
    assert encoded(sampling=r.Sampling(temperature=1.7), losses=losses)["inferenceConfig"] == {"temperature": 1.0}
    assert losses.fatal == ["temperature"]


@pytest.mark.parametrize("model", [NOVA, CLAUDE])
@pytest.mark.parametrize(
    ("sampling", "name"),
    [
        (r.Sampling(frequency_penalty=0.5), "frequency_penalty"),
        (r.Sampling(presence_penalty=0.5), "presence_penalty"),
        (r.Sampling(seed=7), "seed"),
        (r.Sampling(logit_bias={"5": 1.0}), "logit_bias"),
        (r.Sampling(logprobs=True, top_logprobs=3), "logprobs"),
        (r.Sampling(n=2), "n"),
    ],
)
def test_sampling_that_has_no_place_is_told(sampling: r.Sampling, name: str, model: str) -> None:
    assert lost(sampling=sampling, model=model) == [name]


def test_top_k_goes_to_claude_and_is_told_elsewhere() -> None:
    assert encoded(sampling=r.Sampling(top_k=5), model="anthropic.claude-3-haiku-20240307-v1:0")["additionalModelRequestFields"] == {"top_k": 5}
    assert lost(sampling=r.Sampling(top_k=5)) == ["top_k"]


def test_a_mark_is_a_cache_point_after_its_block_with_its_lifetime() -> None:
    body = encoded(says("user", text("Long", cache_control=CACHED), text("Longer", cache_control=HOUR), "Now"))
    assert turns(body)[0][1] == [{"text": "Long"}, POINT, {"text": "Longer"}, {"cachePoint": {"type": "default", "ttl": "1h"}}, {"text": "Now"}]


def test_marks_are_told_where_a_model_does_not_cache() -> None:
    marked = says("user", text("Long", cache_control=CACHED))
    assert lost(marked, model="openai.gpt-oss-120b-1:0") == ["messages.cache_control"]
    profile = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/a1b2c3d4e5f6"
    assert turns(encoded(marked, model=profile)) == [("user", [{"text": "Long"}, POINT])]


def test_a_mark_on_a_blank_text_marks_what_is_before_it() -> None:
    blank = text("\n", cache_control=CACHED)
    assert turns(encoded(says("user", "Hi", blank)))[0][1] == [{"text": "Hi"}, POINT]
    body = encoded(says("system", blank), says("user", blank, "Hi"))
    assert body == {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}


@pytest.mark.parametrize(("media_type", "told"), [("image/png", "png"), ("image/JPG", "jpeg"), ("image/jpeg; q=1", "jpeg"), ("image/webp", "webp")])
def test_an_image_goes_with_its_bytes(media_type: str, told: str) -> None:
    body = encoded(says("user", r.ImagePart(data=PIXEL, media_type=media_type)))
    assert turns(body)[0][1] == [{"image": {"format": told, "source": {"bytes": PIXEL}}}]


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (r.ImagePart(url="https://example.com/a.png"), "messages.image"),
        (r.ImagePart(data=PIXEL, media_type="image/tiff"), "messages.image"),
        (r.ImagePart(data=PIXEL, media_type="image/png", detail="low"), "messages.detail"),
        (r.FilePart(url="https://example.com/a.pdf"), "messages.file"),
        (r.FilePart(file_id="file-1"), "messages.file"),
        (r.FilePart(data=PIXEL, media_type="application/zip"), "messages.file"),
        (r.AudioPart(data=PIXEL, format="wav"), "messages.audio"),
        (r.NativePart(type="search_result", raw=Raw(b"{}")), "messages.search_result"),
        (r.ReasoningPart(text="Hm", signature="s", maker="anthropic_messages"), "messages.reasoning"),
        (r.ReasoningPart(text="Hm"), "messages.reasoning_text"),
        (r.ToolCallPart(id="c", name="f", arguments="", signature="s", maker="gemini"), "messages.signature"),
    ],
)
def test_content_that_has_no_place_is_told(part: r.Part, name: str) -> None:
    assert lost(says("user", part, "Hi")) == [name]


def test_documents_go_with_their_bytes_each_by_a_name_of_its_own() -> None:
    names = ["My  report (1).pdf", None, "My report_(1)_pdf", "…"]
    kinds = ["application/pdf", "text/plain; charset=utf-8", "text/x-python", "application/json"]
    files = [r.FilePart(data=PIXEL, media_type=kind, filename=name) for kind, name in zip(kinds, names, strict=True)]
    found = [block["document"] for block in turns(encoded(says("user", "Read", *files)))[0][1][1:]]
    assert [each["name"] for each in found] == ["My report (1) pdf", "document 2", "My report (1) pdf (3)", "document 4"]
    assert [each["format"] for each in found] == ["pdf", "txt", "txt", "txt"]
    assert all(each["source"] == {"bytes": PIXEL} for each in found)


def test_signed_reasoning_comes_back_as_it_was() -> None:
    shown = r.ReasoningPart(text="Hm", signature="sig", maker="bedrock")
    hidden = r.ReasoningPart(signature=b64encode(b"hidden").decode(), redacted=True, maker="bedrock")
    blocks = turns(encoded(HI, says("assistant", shown, hidden, "Yes"), says("user", "Why?")))[1][1]
    assert blocks[0] == {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "sig"}}}
    assert blocks[1] == {"reasoningContent": {"redactedContent": b64encode(b"hidden").decode()}}


def test_unsigned_reasoning_of_bedrock_comes_back_where_models_do_not_sign() -> None:
    history = (HI, says("assistant", r.ReasoningPart(text="Hm", maker="bedrock"), "Yes"), says("user", "Why?"))
    assert turns(encoded(*history, model="openai.gpt-oss-120b-1:0"))[1][1][0] == {"reasoningContent": {"reasoningText": {"text": "Hm"}}}
    assert lost(*history, model=CLAUDE) == lost(*history, model="us.deepseek.r1-v1:0") == ["messages.reasoning_text"]


def test_an_answer_that_the_client_began_goes_where_a_model_goes_on_from_it() -> None:
    began = (HI, says("assistant", "Well,"))
    assert turns(encoded(*began, model=CLAUDE))[-1] == ("assistant", [{"text": "Well,"}])
    losses = Losses()
    assert turns(encoded(*began, model="anthropic.claude-opus-4-8", losses=losses))[-1][0] == "user"
    assert losses.fatal == ["messages.prefill"]


THINKING = [
    (CLAUDE, r.Reasoning(budget_tokens=2000), 4000, {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
    (CLAUDE, r.Reasoning(budget_tokens=9000), 4000, {"thinking": {"type": "enabled", "budget_tokens": 3999}}),
    (CLAUDE, r.Reasoning(effort="low"), 4000, {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
    ("us.anthropic.claude-sonnet-4-6", r.Reasoning(), None, {"thinking": {"type": "adaptive"}}),
    ("anthropic.claude-opus-4-8", r.Reasoning(effort="high"), None, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
    ("us.amazon.nova-2-lite-v1:0", r.Reasoning(effort="low"), None, {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}),
    ("us.amazon.nova-2-lite-v1:0", r.Reasoning(), None, {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}}),
    ("openai.gpt-oss-120b-1:0", r.Reasoning(effort="minimal"), None, {"reasoning_effort": "low"}),
    ("qwen.qwen3-32b-v1:0", r.Reasoning(effort="xhigh"), None, {"reasoning_config": "high"}),
]


@pytest.mark.parametrize(("model", "reasoning", "limit", "told"), THINKING)
def test_reasoning_is_asked_for_in_each_family_s_words(model: str, reasoning: r.Reasoning, limit: int | None, told: Json) -> None:
    assert encoded(model=model, reasoning=reasoning, max_output_tokens=limit)["additionalModelRequestFields"] == told


def test_reasoning_that_is_off_asks_for_nothing() -> None:
    for model in (CLAUDE, NOVA):
        assert "additionalModelRequestFields" not in encoded(model=model, reasoning=r.Reasoning(effort="none"))


def test_reasoning_that_a_model_does_not_have_is_told() -> None:
    assert lost(model="us.meta.llama4-maverick-17b-instruct-v1:0", reasoning=r.Reasoning(effort="high")) == ["reasoning"]
    forced = r.ToolChoice(mode="required")
    assert lost(model=CLAUDE, tools=(WEATHER,), tool_choice=forced, reasoning=r.Reasoning(budget_tokens=2000)) == ["reasoning"]


def test_a_schema_is_the_output_s_form_with_its_objects_closed() -> None:
    wanted = r.JsonSchemaFormat(name="city", schema=SCHEMA, description="A city", strict=True)
    told, another = (encoded(model=model, response_format=wanted)["outputConfig"]["textFormat"] for model in (CLAUDE, "moonshot.next"))
    assert told == another  # of a model that nothing is known of, the provider is asked
    assert told["type"] == "json_schema"
    schema = told["structure"]["jsonSchema"]
    assert json.loads(schema.pop("schema")) == {**json.loads(bytes(SCHEMA)), "additionalProperties": False}
    assert schema == {"name": "city", "description": "A city"}


@pytest.mark.parametrize("model", [NOVA, "us.meta.llama4-maverick-17b-instruct-v1:0", "anthropic.claude-3-haiku-20240307-v1:0"])
def test_a_schema_that_a_model_cannot_be_held_to_is_told(model: str) -> None:
    assert lost(model=model, response_format=r.JsonSchemaFormat(name="city", schema=SCHEMA)) == ["response_format"]


@pytest.mark.parametrize("wanted", [r.JsonObjectFormat(), r.JsonSchemaFormat(name="any")])
def test_json_of_any_form_is_told(wanted: r.ResponseFormat) -> None:
    assert lost(response_format=wanted) == ["response_format"]
    assert "outputConfig" not in encoded(response_format=r.TextFormat())


def test_metadata_goes_where_it_fits_and_is_told_where_not() -> None:
    assert encoded(metadata={"run": "a b"})["requestMetadata"] == {"run": "a b"}
    assert lost(metadata={"run": "é"}) == lost(metadata={"run": "x" * 257}) == lost(metadata={str(n): "" for n in range(17)}) == ["metadata"]


def test_hints_and_what_only_the_client_s_dialect_knows_are_told() -> None:
    extra = {"service_tier": Raw(b'"flex"')}
    assert lost(user="u", extra=extra) == ["user", "extra.service_tier"]
    assert lost(r.Message(role="user", parts=(text("Hi"),), name="Ada")) == ["messages.name"]


def test_a_count_asks_of_the_model_itself_with_the_prompt_alone() -> None:
    request = r.ChatRequest(
        model="m", messages=(says("system", "Be brief"), HI), tools=(WEATHER,), max_output_tokens=5, sampling=r.Sampling(temperature=1)
    )
    body = json.loads(BEDROCK.encode_count_request(request, NOVA, Facts(), Losses()))
    assert faults("CountTokens", body) == []
    assert body["input"]["converse"].keys() == {"messages", "system", "toolConfig"}
    assert BEDROCK.count_path(CLAUDE) == "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/count-tokens"
    assert BEDROCK.decode_count(b'{"inputTokens":18}') == 18


_words = st.text(max_size=8)
_part = st.one_of(
    _words.map(text),
    st.builds(r.ImagePart, data=st.just(PIXEL), media_type=st.sampled_from(["image/png", "image/bmp"])),
    st.builds(r.FilePart, data=st.just(PIXEL), media_type=st.sampled_from(["text/csv", "a/b"]), filename=st.none() | _words),
    st.builds(r.ToolCallPart, id=_words, name=st.just("weather"), arguments=_words),
    st.builds(r.ReasoningPart, text=_words, signature=st.none() | st.just("c2ln"), maker=st.none() | st.just("bedrock"), redacted=st.just(False)),
    st.builds(r.ToolResultPart, tool_call_id=_words, content=st.lists(_words.map(text), max_size=2).map(tuple), is_error=st.booleans()),
)
_roles: Any = st.sampled_from(["system", "user", "assistant", "tool", "developer"])
_message = st.builds(r.Message, role=_roles, parts=st.lists(_part, max_size=4).map(tuple))


@settings(max_examples=150, deadline=None)
@given(st.lists(_message, max_size=6), st.sampled_from([NOVA, CLAUDE, "openai.gpt-oss-20b-1:0"]))
def test_any_conversation_is_one_that_amazon_s_model_takes_with_its_roles_in_turns(messages: list[r.Message], model: str) -> None:
    try:
        body = encoded(*messages, model=model, losses=Losses())
    except TargetCannot:
        return
    roles = [turn["role"] for turn in body["messages"]]
    assert all(one != two for one, two in pairwise(roles))
    assert all(turn["content"] for turn in body["messages"])
