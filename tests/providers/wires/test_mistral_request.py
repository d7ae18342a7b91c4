"""What goes to Mistral: translated, and as an OpenAI client's bytes."""

import json
from typing import Any

import msgspec
import pytest

from contract import requests as r
from contract.call import Call
from contract.errors import TargetCannot
from providers.address import Chosen
from providers.build import routes_of
from providers.registry import PROVIDER_KINDS
from providers.wires.facts import honoured
from providers.wires.losses import Losses
from providers.wires.mistral import MISTRAL
from providers.wires.mistral.messages import ID, tool_id
from providers.wires.openai_chat import OPENAI_CHAT
from tests.providers.wires.chat_requests import CALL, PIXEL, SCHEMA, USER, WEATHER, image, request, text, user

KIND = PROVIDER_KINDS["mistral"]
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
NINE = tool_id("call_1")


def sent(body: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The body that Mistral gets of an OpenAI client's, translated, and the names of what is lost."""
    return encoded(OPENAI_CHAT.decode_request(json.dumps(body).encode()))


def encoded(chat: r.ChatRequest) -> tuple[dict[str, Any], list[str]]:
    losses = Losses()
    body = json.loads(MISTRAL.encode_request(honoured(chat, KIND.facts, losses), "mistral-large", KIND.facts, losses))
    return body, [*losses.fatal, *losses.hints]


def routed(body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The body that Mistral gets of an OpenAI client's by the provider's own route, and the notes to the client."""
    fields = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in body.items()}
    stream = bool(body.get("stream"))
    shape: dict[str, Any] = {"model": "m", "stream": stream, "include_usage": False, "choices": 1}
    call = Call(request_id="r", dialect="openai_chat", body=json.dumps(body).encode(), fields=fields, **shape)
    prepared = routes_of(KIND, Chosen(name="mistral"))["openai_chat"].prepare(call, "mistral-large", "hints")
    assert prepared.path == "/chat/completions"
    return json.loads(prepared.body), {name.decode(): value.decode() for name, value in prepared.notes}


def test_parameters_have_mistrals_names() -> None:
    asked = request(seed=3, max_completion_tokens=9, n=2, top_k=4, logprobs=True, stop=["X"], parallel_tool_calls=False, stream=True)
    asked |= {"tools": [WEATHER], "tool_choice": "required", "metadata": {"a": "b"}, "reasoning_effort": "high"}
    body, lost = sent(asked)
    assert lost == [] and "stream_options" not in body and "seed" not in body and "max_completion_tokens" not in body
    wanted = {"random_seed": 3, "max_tokens": 9, "n": 2, "top_k": 4, "logprobs": True, "stop": ["X"], "parallel_tool_calls": False}
    wanted |= {"tool_choice": "any", "stream": True, "reasoning_effort": "high", "metadata": {"a": "b"}, "model": "mistral-large"}
    assert {name: body[name] for name in wanted} == wanted


def test_a_named_tool_and_a_schema_go_as_openais() -> None:
    named = {"type": "function", "function": {"name": "weather"}}
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}
    body, lost = sent(request(tools=[WEATHER], tool_choice=named, response_format=form))
    assert (body["tool_choice"], body["response_format"], body["tools"], lost) == (named, form, [WEATHER], [])


def test_a_tool_without_parameters_is_given_empty_ones() -> None:
    body, _ = sent(request(tools=[{"type": "function", "function": {"name": "clock"}}]))
    assert body["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize("given", ["call_1", "toolu_01ABCDEF", "", "é", "abc-12345"])
def test_a_foreign_id_becomes_nine_letters_and_digits_always_the_same(given: str) -> None:
    assert ID.fullmatch(tool_id(given)) and tool_id(given) == tool_id(given) and tool_id(given) != tool_id(given + "x")


def test_an_id_of_mistrals_own_stays() -> None:
    assert tool_id("6IgxW8LfZ") == "6IgxW8LfZ"


def test_a_call_and_its_result_have_one_id_and_a_user_never_follows_a_tool() -> None:
    body, lost = sent(request(USER, CALLING, RESULT, USER))
    assert body["messages"] == [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [{**CALL, "id": NINE}]},
        {"role": "tool", "tool_call_id": NINE, "content": "rain"},
        {"role": "assistant", "content": "OK"},
        USER,
    ]
    assert lost == []


def test_thinking_goes_back_as_a_chunk_with_its_own_signature_only() -> None:
    parts = (
        r.ReasoningPart(text="hm", signature="sig", maker="mistral"),
        r.ReasoningPart(text="plain"),
        r.ReasoningPart(text="x", signature="s", maker="anthropic_messages"),
        r.TextPart(text="42"),
    )
    body, lost = encoded(r.ChatRequest(model="m", messages=(r.Message(role="assistant", parts=parts), r.Message(role="user"))))
    assert body["messages"][0]["content"] == [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "signature": "sig"},
        {"type": "thinking", "thinking": [{"type": "text", "text": "plain"}]},
        {"type": "text", "text": "42"},
    ]
    assert lost == ["messages.reasoning"]


def test_an_answer_that_has_begun_is_a_prefix() -> None:
    body, lost = sent(request(USER, {"role": "assistant", "content": "Once"}))
    assert body["messages"][-1] == {"role": "assistant", "content": "Once", "prefix": True} and lost == []


def test_a_clients_own_prefix_and_fields_of_mistrals_stay() -> None:
    last = {"role": "assistant", "content": "Once", "prefix": False}
    body, lost = sent(request(USER, last, safe_prompt=True, prompt_mode="reasoning", random_seed=5))
    assert body["messages"][-1] == last and (body["safe_prompt"], body["prompt_mode"], body["random_seed"], lost) == (True, "reasoning", 5, [])


def test_images_audio_and_files_are_chunks_of_mistrals() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "mp3"}}
    file = {"type": "file", "file": {"file_data": "data:application/pdf;base64,QUJD", "filename": "a.pdf"}}
    body, lost = sent(request(user(text("What?"), image(PIXEL, detail="low"), audio, file)))
    assert lost == [] and body["messages"][0]["content"] == [
        text("What?"),
        image(PIXEL, detail="low"),
        {"type": "input_audio", "input_audio": "QUJD"},
        {"type": "document_url", "document_url": "data:application/pdf;base64,QUJD", "document_name": "a.pdf"},
    ]


@pytest.mark.parametrize(
    ("reasoning", "dialect", "word"),
    [
        (r.Reasoning(effort="none"), "openai_chat", "none"),
        (r.Reasoning(effort="none"), "anthropic_messages", None),
        (r.Reasoning(budget_tokens=9000), "anthropic_messages", "medium"),
        (r.Reasoning(), "anthropic_messages", "high"),
        (None, "openai_chat", None),
    ],
)
def test_how_much_to_reason_is_a_word(reasoning: r.Reasoning | None, dialect: str, word: str | None) -> None:
    chat = r.ChatRequest(dialect=dialect, model="m", messages=(r.Message(role="user", parts=(r.TextPart(text="Hi"),)),), reasoning=reasoning)
    assert encoded(chat)[0].get("reasoning_effort") == word


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ({"user": "u"}, "user"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"store": True}, "extra.store"),
        ({"modalities": ["audio"]}, "extra.modalities"),
    ],
)
def test_what_has_no_place_is_told_by_name(field: dict[str, Any], name: str) -> None:
    assert sent(request(**field))[1] == [name]


NATIVE = request(
    {"role": "assistant", "content": [{"type": "text", "text": "x"}], "prefix": False},
    user({"type": "document_url", "document_url": "https://x/y.pdf"}),
    tool_choice="any",
    tools=[WEATHER],
    random_seed=4,
    new_field={"a": 1},
)


def test_what_mistral_takes_passes_as_it_came() -> None:
    assert routed(NATIVE) == ({**NATIVE, "model": "mistral-large"}, {})


def test_names_of_openais_are_changed_and_stream_options_left_out_of_what_passes() -> None:
    body, notes = routed(request(seed=1, max_completion_tokens=5, stream=True, stream_options={"include_usage": True}))
    assert body == {"model": "mistral-large", "messages": [USER], "random_seed": 1, "max_tokens": 5, "stream": True} and notes == {}


@pytest.mark.parametrize(
    "messages",
    [
        [USER, CALLING, RESULT],
        [USER, {"role": "assistant", "content": "x", "reasoning_content": "hm"}, USER],
        [{"role": "developer", "content": "x"}, USER],
        [USER, {"role": "assistant", "content": "x", "refusal": "no"}, USER],
        [USER, {"role": "assistant", "tool_calls": [{**CALL, "id": NINE}]}, {**RESULT, "tool_call_id": NINE}, USER],
    ],
)
def test_messages_that_mistral_refuses_are_translated(messages: list[Any]) -> None:
    body, _ = routed(request(*messages))
    assert body["messages"] == sent(request(*messages))[0]["messages"] != messages


def test_fields_that_mistral_refuses_are_left_out_and_named() -> None:
    body, notes = routed(request(user="u", store=True, service_tier="flex", random_seed=3))
    assert body == {"model": "mistral-large", "messages": [USER], "random_seed": 3}
    assert sorted(notes["x-turnout-dropped"].split(", ")) == ["service_tier", "store", "user"]


def test_a_field_that_would_change_the_answer_is_refused_by_name() -> None:
    with pytest.raises(TargetCannot) as caught:
        routed(request(logit_bias={"5": 100}))
    assert caught.value.param == "logit_bias"
