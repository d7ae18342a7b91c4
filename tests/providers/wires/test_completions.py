"""OpenAI's legacy completions: what a chat provider can be asked of them, its answer in their words, and the same dialect's bytes."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion

from contract import errors as e
from contract import events as ev
from contract import requests as r
from contract.call import Call
from contract.finish import Finish
from contract.usage import Usage
from providers.translation import shown
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.openai_completions import OPENAI_COMPLETIONS
from tests.contract.event_sequences import answers, cut_answers
from tests.contract.native import natives
from tests.providers.wires.answering import answering

STOPPED = ev.Finished(finish=Finish("stop"))
Json = dict[str, Any]


def decode(**fields: Any) -> r.ChatRequest:
    return OPENAI_COMPLETIONS.decode_request(json.dumps({"model": "m", "prompt": "Say hi", **fields}).encode())


def call(**fields: Any) -> Call:
    raws = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in {"model": "m", "prompt": "Say hi", **fields}.items()}
    body = msgspec.json.encode(raws)
    stream, n = bool(fields.get("stream")), int(fields.get("n", 1))
    return Call(request_id="r", dialect="openai_completions", model="m", stream=stream, include_usage=False, choices=n, body=body, fields=raws)


def test_the_prompt_is_a_user_s_message() -> None:
    assert decode().messages == (r.Message(role="user", parts=(r.TextPart(text="Say hi"),)),)


def test_an_array_of_one_prompt_is_that_prompt() -> None:
    assert decode(prompt=["Say hi"]).messages == decode().messages


def test_without_a_limit_the_api_s_own_holds() -> None:
    assert decode().max_output_tokens == 16 and decode(max_tokens=0).max_output_tokens == 0 and decode(max_tokens=7).max_output_tokens == 7


def test_what_chat_has_too_is_taken() -> None:
    request = decode(
        temperature=0.5, top_p=0.9, n=2, stop="END", seed=7, user="u", presence_penalty=1, frequency_penalty=-1, logit_bias={"50256": -100}
    )
    assert request.sampling == r.Sampling(
        temperature=0.5, top_p=0.9, n=2, seed=7, presence_penalty=1, frequency_penalty=-1, logit_bias={"50256": -100}
    )
    assert request.stop == ("END",) and request.user == "u" and decode(stop=["A", "B"]).stop == ("A", "B")


def test_streaming_and_its_usage_are_asked_for() -> None:
    request = decode(stream=True, stream_options={"include_usage": True})
    assert request.stream and request.include_usage and not decode(stream=True).include_usage


def test_what_nobody_named_is_kept() -> None:
    assert decode(new_field=[1]).extra == {"new_field": msgspec.Raw(b"[1]")}


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], [[1, 2]], []])
def test_several_prompts_and_token_ids_are_refused(prompt: Any) -> None:
    with pytest.raises(e.UnsupportedField) as caught:
        decode(prompt=prompt)
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(("name", "value"), [("suffix", "end"), ("echo", True), ("best_of", 2)])
def test_what_only_a_completions_api_can_do_is_a_loss_at_any_other(name: str, value: Any) -> None:
    losses = Losses()
    OPENAI_CHAT.encode_request(decode(**{name: value}), "m", Facts(), losses)
    assert [shown(loss, OPENAI_COMPLETIONS) for loss in losses.fatal] == [name]


@pytest.mark.parametrize("fields", [{"suffix": ""}, {"suffix": None}, {"echo": False}, {"best_of": 1}, {"logprobs": None}])
def test_asking_for_nothing_of_them_is_no_loss(fields: Json) -> None:
    assert decode(**fields) == decode()


def test_the_best_of_as_many_as_are_given_back_is_all_of_them() -> None:
    assert decode(n=3, best_of=3) == decode(n=3)


@pytest.mark.parametrize(("asked", "alternatives"), [(0, None), (3, 3)])
def test_log_probabilities_are_asked_for(asked: int, alternatives: int | None) -> None:
    assert decode(logprobs=asked).sampling == r.Sampling(logprobs=True, top_logprobs=alternatives)


def test_log_probabilities_are_told_in_the_old_form_streamed_and_whole() -> None:
    def token(text: str, value: float, *other: tuple[str, float]) -> Json:
        return {"token": text, "logprob": value, "bytes": None, "top_logprobs": [{"token": t, "logprob": p, "bytes": None} for t, p in other]}

    def piece(text: str, *tokens: Json) -> ev.TextDelta:
        return ev.TextDelta(text=text, logprobs=msgspec.Raw(msgspec.json.encode({"content": tokens})))

    events: list[ev.Event] = [
        piece("Hi", token("Hi", -0.5, ("Hi", -0.5), ("Ho", -1.5))),
        piece(" you", token(" ", -0.1), token("you", -0.2)),
        STOPPED,
        ev.Ended(),
    ]
    told = json.loads(OPENAI_COMPLETIONS.encode_response(events, answering("openai_completions")))["choices"][0]["logprobs"]
    assert told == {
        "tokens": ["Hi", " ", "you"],
        "token_logprobs": [-0.5, -0.1, -0.2],
        "top_logprobs": [{"Hi": -0.5, "Ho": -1.5}, {}, {}],
        "text_offset": [0, 2, 3],
    }
    stream = b"".join(map(OPENAI_COMPLETIONS.stream_encoder(answering("openai_completions")).feed, events))
    chunks = [json.loads(line[6:]) for line in stream.decode().split("\n\n")[:-2]]
    streamed = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [each and each["text_offset"] for each in streamed] == [[0], [2, 3], None]


@pytest.mark.parametrize(("fields", "param"), [({"prompt": 5}, "prompt"), ({"prompt": None}, "prompt"), ({"stop": 5}, "stop"), ({"n": "x"}, "n")])
def test_a_wrong_type_is_named(fields: Json, param: str) -> None:
    with pytest.raises(e.InvalidRequest) as caught:
        decode(**fields)
    assert caught.value.param == param


def run(stream: bytes) -> tuple[dict[int, str], dict[int, str], Json | None, bool]:
    """Texts and reasons by choice, usage, and whether the stream is done. Raises AssertionError where it is not legal."""
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    usage, done = None, False
    for line in stream.decode().split("\n\n")[:-1]:
        assert not done and line.startswith("data: ") and "\n" not in line
        if line == "data: [DONE]":
            done = True
            continue
        chunk = json.loads(line[6:])
        usage = chunk.get("usage", usage)
        for choice in chunk["choices"]:
            assert choice["index"] not in reasons, "nothing follows the reason to finish"
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
            if choice["finish_reason"] is not None:
                reasons[choice["index"]] = choice["finish_reason"]
    return texts, reasons, usage, done


@settings(max_examples=60, deadline=None)
@given(answers(choices=2, audio=True))
def test_every_answer_is_the_same_streamed_and_whole(events: list[Any]) -> None:
    texts, reasons, usage, done = run(b"".join(map(OPENAI_COMPLETIONS.stream_encoder(answering("openai_completions")).feed, events)))
    body = json.loads(OPENAI_COMPLETIONS.encode_response(events, answering("openai_completions")))
    assert done and usage == body.get("usage")
    assert [(choice["index"], choice["text"], choice["finish_reason"]) for choice in body["choices"]] == [
        (index, texts[index], reasons[index]) for index in sorted(texts)
    ]


@settings(max_examples=25, deadline=None)
@given(cut_answers(choices=2))
def test_an_answer_that_was_cut_is_never_done(events: list[Any]) -> None:
    assert not run(b"".join(map(OPENAI_COMPLETIONS.stream_encoder(answering("openai_completions")).feed, events)))[3]


def test_an_answer_is_what_the_sdk_s_types_say() -> None:
    events: list[ev.Event] = [
        ev.TextDelta(text="Hi"),
        ev.Finished(finish=Finish("length")),
        ev.UsageReported(usage=Usage(input_uncached=2, output_visible=3)),
        ev.Ended(),
    ]
    told = Completion.model_validate(json.loads(OPENAI_COMPLETIONS.encode_response(events, answering("openai_completions"))))
    assert (told.id, told.model, told.object, told.created) == ("cmpl-r1", "asked", "text_completion", 1_760_000_000)
    assert told.choices[0].finish_reason == "length" and told.usage is not None and told.usage.total_tokens == 5


def test_log_probabilities_of_another_shape_are_left_out() -> None:
    strange = ev.TextDelta(text="Hi", logprobs=msgspec.Raw(b'{"content":[{"tok":1}]}'))
    told = json.loads(OPENAI_COMPLETIONS.encode_response([strange, STOPPED, ev.Ended()], answering("openai_completions")))
    assert (told["choices"][0]["text"], told["choices"][0]["logprobs"]) == ("Hi", None)


def test_usage_is_streamed_only_to_who_asked() -> None:
    events: list[ev.Event] = [
        ev.TextDelta(text="Hi"),
        ev.Finished(finish=Finish("stop")),
        ev.UsageReported(usage=Usage(input_uncached=2, output_visible=3)),
        ev.Ended(),
    ]
    for asked in (True, False):
        encoder = OPENAI_COMPLETIONS.stream_encoder(answering("openai_completions", include_usage=asked))
        assert (run(b"".join(map(encoder.feed, events)))[2] is not None) == asked


def chunk(text: str, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    choice = {"text": text, "index": index, "logprobs": None, "finish_reason": finish}
    body = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], **more}
    return b"data: %b\n\n" % json.dumps(body).encode()


USAGE = b'data: {"id":"cmpl-1","object":"text_completion","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = chunk("Hel") + chunk("lo wörld") + chunk("", "length") + USAGE + DONE


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=12).map(sorted))
def test_a_stream_goes_by_as_it_came_however_it_is_sliced(at: list[int]) -> None:
    tap = OPENAI_COMPLETIONS.stream_tap(call(stream=True), False)
    out = b"".join(tap.feed(STREAM[start:end]) for start, end in zip([0, *at], [*at, len(STREAM)], strict=True)) + tap.end()
    assert out == STREAM and tap.complete and tap.error is None and tap.tokens_seen == 3
    assert tap.usage is not None and (tap.usage.input_total, tap.usage.output_total) == (3, 2)
    assert tap.finish == Finish("length", "length") and tap.upstream_id == "cmpl-1"


def test_a_stream_s_usage_is_taken_out_where_the_client_did_not_ask() -> None:
    tap = OPENAI_COMPLETIONS.stream_tap(call(stream=True), True)
    assert tap.feed(STREAM) == STREAM.replace(USAGE, b"") and tap.usage is not None


def test_a_stream_that_is_cut_anywhere_before_its_reason_is_never_whole() -> None:
    finished = STREAM.index(b'"length"')
    for cut in range(len(STREAM)):
        tap = OPENAI_COMPLETIONS.stream_tap(call(stream=True), False)
        out = tap.feed(STREAM[:cut]) + tap.end()
        assert STREAM.startswith(out.removesuffix(DONE)) and (out == b"" or out.endswith(b"\n\n"))
        assert tap.complete == (tap.error is None)
        if cut <= finished:
            assert isinstance(tap.error, e.StreamCut)


def test_a_stream_is_whole_when_every_prompt_s_every_choice_is() -> None:
    asked = call(stream=True, prompt=["a", "b"], n=2)
    for finished in range(5):
        tap = OPENAI_COMPLETIONS.stream_tap(asked, False)
        tap.feed(b"".join(chunk("x", "stop", index) for index in range(finished)))
        tap.end()
        assert tap.complete == (finished == 4)


@pytest.mark.parametrize(("prompt", "count"), [("a", 1), (["a"], 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2], [3]], 3), ([], 1)])
def test_choices_are_counted_by_prompt(prompt: Any, count: int) -> None:
    tap = OPENAI_COMPLETIONS.stream_tap(call(stream=True, prompt=prompt), False)
    tap.feed(b"".join(chunk("x", "stop", index) for index in range(count)))
    assert tap.finished


def test_a_whole_answer_is_read() -> None:
    body = b'{"id":"cmpl-1","choices":[{"index":0,"text":"Hi","finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
    answer = OPENAI_COMPLETIONS.read_unary(body)
    assert answer.body == body and answer.upstream_id == "cmpl-1" and answer.finish == Finish("stop", "stop")
    assert answer.usage is not None and answer.usage.output_total == 2


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[5]}', b'{"choices":null}', b"\xff"])
def test_what_is_no_completion_is_malformed(body: bytes) -> None:
    with pytest.raises(e.MalformedResponse):
        OPENAI_COMPLETIONS.read_unary(body)


def test_an_error_under_a_200_is_raised() -> None:
    with pytest.raises(e.UpstreamError):
        OPENAI_COMPLETIONS.read_unary(b'{"error":{"message":"CANARY","type":"server_error"}}')


def test_the_client_s_body_goes_on_with_our_fields_set() -> None:
    asked = call(stream=True, echo=True, suffix="x", best_of=3, n=2, logprobs=5, prompt=[[1, 2]], new_field=1)
    sent = json.loads(OPENAI_COMPLETIONS.rewrite_request(asked, "up", Facts(), stream=True, ask_usage=True))
    assert sent.pop("stream_options") == {"include_usage": True} and sent.pop("model") == "up"
    assert sent == {"stream": True, "echo": True, "suffix": "x", "best_of": 3, "n": 2, "logprobs": 5, "prompt": [[1, 2]], "new_field": 1}


@settings(max_examples=60, deadline=None)
@given(answers(choices=2))
def test_what_another_format_alone_knows_is_told_streamed_and_whole(events: list[Any]) -> None:
    context = answering("openai_completions")
    lines = b"".join(map(OPENAI_COMPLETIONS.stream_encoder(context).feed, events)).decode().split("\n\n")[:-1]
    chunks = [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]
    whole = json.loads(OPENAI_COMPLETIONS.encode_response(events, context))
    assert whole.get("native_output", []) == natives(events) == [each for chunk in chunks for each in chunk.get("native_output", ())]
