"""generateContent's answers to events: the quirks that recordings do not hold, and what a stream's end means."""

import json
from typing import Any

import pytest

from contract import errors as e
from contract import events as ev
from contract.finish import Finish
from providers.wires.gemini import GEMINI

Json = dict[str, Any]


def body(*parts: Json, finish: str | None = "STOP", **more: Any) -> Json:
    candidate: Json = {"content": {"role": "model", "parts": list(parts)}, **({"finishReason": finish} if finish else {})}
    return {"responseId": "r", "modelVersion": "gemini-x", "candidates": [candidate | more.pop("candidate", {})], **more}


def whole(*parts: Json, **more: Any) -> list[ev.Event]:
    return GEMINI.decode_response(json.dumps(body(*parts, **more)).encode())


def streamed(*bodies: Json, choices: int = 1) -> list[ev.Event]:
    decoder = GEMINI.stream_decoder(choices)
    return decoder.feed(b"".join(b"data: %b\r\n\r\n" % json.dumps(each).encode() for each in bodies)) + decoder.end()


def only(events: list[ev.Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


CALL: Json = {"functionCall": {"name": "f", "args": {"a": 1}}}


def test_stop_with_a_call_is_tool_calls_also_when_the_finish_comes_later() -> None:
    for events in (whole(CALL), streamed(body(CALL, finish=None), body({"text": ""}))):
        assert only(events, ev.Finished) == [ev.Finished(finish=Finish("tool_calls", "STOP"))]


def test_calls_without_ids_get_one_each_and_it_is_the_same_again() -> None:
    ids = [event.id for event in only(whole(CALL, CALL), ev.ToolCallStarted)]
    assert len(set(ids)) == 2 and all(ids)
    assert ids == [event.id for event in only(streamed(body(CALL, finish=None), body(CALL)), ev.ToolCallStarted)]


def test_a_calls_own_id_is_kept() -> None:
    [started] = only(whole({"functionCall": {"name": "f", "id": "x1"}}), ev.ToolCallStarted)
    assert started.id == "x1"


@pytest.mark.parametrize("call", [{"name": "f"}, {"name": "f", "args": None}, {"name": "f", "args": {}}])
def test_a_call_without_arguments_has_an_empty_object(call: Json) -> None:
    assert only(whole({"functionCall": call}), ev.ToolCallDelta) == [ev.ToolCallDelta(arguments="{}")]


@pytest.mark.parametrize("native", ["SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "IMAGE_SAFETY"])
def test_a_filtered_answer_says_so(native: str) -> None:
    assert only(whole(finish=native), ev.Finished) == [ev.Finished(finish=Finish("content_filter", native))]


@pytest.mark.parametrize("native", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "OTHER", "LANGUAGE", "NO_IMAGE"])
def test_a_failed_answer_is_an_error(native: str) -> None:
    with pytest.raises(e.UpstreamError):
        whole({"text": "a"}, finish=native)


def test_what_came_before_a_failure_is_told_first() -> None:
    decoder = GEMINI.stream_decoder(1)
    pieces = [body({"text": "Hi"}, finish=None), body(finish="OTHER")]
    events = decoder.feed(b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in pieces))
    assert [event.text for event in only(events, ev.TextDelta)] == ["Hi"]
    with pytest.raises(e.UpstreamError):
        decoder.end()


def test_an_unknown_reason_is_kept_and_is_not_stop() -> None:
    assert only(whole({"text": "a"}, finish="NEW"), ev.Finished) == [ev.Finished(finish=Finish("unknown", "NEW"))]


def test_a_blocked_prompt_is_an_error_of_policy_streamed_or_not() -> None:
    blocked: Json = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}
    with pytest.raises(e.ContentPolicyRefused):
        GEMINI.decode_response(json.dumps(blocked).encode())
    with pytest.raises(e.ContentPolicyRefused):
        streamed(blocked)


def test_usage_is_in_disjoint_classes_and_the_last_one_counts() -> None:
    counts = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 40,
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 30}],
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 10}],
        "toolUsePromptTokenCount": 5,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 11,
        "totalTokenCount": 123,
    }
    [event] = only(streamed(body(finish=None, usageMetadata={"promptTokenCount": 1}), body({"text": "a"}, usageMetadata=counts)), ev.UsageReported)
    usage = event.usage
    assert (usage.input_uncached, usage.cache_read, usage.audio_input, usage.input_total) == (45, 40, 20, 105)
    assert (usage.output_visible, usage.reasoning, usage.output_total) == (7, 11, 18)
    assert json.loads(bytes(usage.raw)) == counts


def test_images_and_documents_of_a_prompt_and_images_that_were_made_are_classes_of_their_own() -> None:
    details = [{"modality": "TEXT", "tokenCount": 20}, {"modality": "IMAGE", "tokenCount": 50}, {"modality": "DOCUMENT", "tokenCount": 30}]
    counts = {"promptTokenCount": 100, "promptTokensDetails": details, "candidatesTokenCount": 1300, "cachedContentTokenCount": 25}
    made = {"cacheTokensDetails": [{"modality": "IMAGE", "tokenCount": 25}], "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}]}
    [event] = only(whole({"text": "a"}, usageMetadata=counts | made), ev.UsageReported)
    usage = event.usage
    assert (usage.input_uncached, usage.cache_read, usage.image_input) == (20, 25, 55) and usage.input_total == 100
    assert (usage.output_visible, usage.image_output) == (10, 1290)


@pytest.mark.parametrize(("model", "searches"), [("gemini-3-pro-preview", 2), ("gemini-2.5-flash", 1)])
def test_searches_are_counted_as_they_are_charged(model: str, searches: int) -> None:
    """Each query; up to Gemini 2.5 each answer that is grounded in any. A stream's pieces repeat them."""
    grounded = {"groundingMetadata": {"webSearchQueries": ["a", "b"]}}
    counts = {"promptTokenCount": 3, "candidatesTokenCount": 1}
    pieces = [body({"text": word}, candidate=grounded, usageMetadata=counts, modelVersion=model) for word in "xy"]
    assert only(streamed(*pieces), ev.UsageReported)[0].usage.web_searches == searches
    assert only(whole({"text": "a"}, usageMetadata=counts), ev.UsageReported)[0].usage.web_searches is None


def test_what_usage_does_not_tell_is_unknown() -> None:
    [event] = only(whole({"text": "a"}, usageMetadata={"promptTokenCount": 3}), ev.UsageReported)
    assert (event.usage.cache_read, event.usage.reasoning, event.usage.output_total) == (None, None, None)
    assert only(whole({"text": "a"}), ev.UsageReported) == []


def test_a_thoughts_signature_closes_its_part_and_a_texts_comes_after_it() -> None:
    events = whole({"text": "Hm", "thought": True, "thoughtSignature": "s1"}, {"text": "Yes", "thoughtSignature": "s2"})
    assert events[1:5] == [
        ev.ReasoningDelta(text="Hm"),
        ev.ReasoningSignature(signature="s1", maker="gemini"),
        ev.TextDelta(text="Yes", part=1),
        ev.ReasoningSignature(signature="s2", maker="gemini", part=2),
    ]


def test_citations_stand_on_the_text_in_characters_though_google_counts_bytes() -> None:
    grounding = {
        "groundingChunks": [{"web": {"uri": "https://x.y", "title": "X"}}, {"retrievedContext": {"uri": "u2"}}],
        "groundingSupports": [{"segment": {"startIndex": 3, "endIndex": 6, "text": "bé"}, "groundingChunkIndices": [0, 1, 9]}],
    }
    events = whole({"text": "éabé", "thoughtSignature": "s"}, candidate={"groundingMetadata": grounding})
    first, second, third = only(events, ev.Annotated)
    assert (first.url, first.title, first.cited_text, first.start, first.end, first.part) == ("https://x.y", "X", "bé", 2, 4, 0)
    assert (second.url, third.url) == ("u2", None)
    assert events.index(third) < events.index(only(events, ev.ReasoningSignature)[0])


def test_what_only_google_knows_is_native_output() -> None:
    code, image = {"executableCode": {"code": "1"}}, {"inlineData": {"mimeType": "image/png", "data": "aa"}}
    events = only(whole(code, {"codeExecutionResult": {"outcome": "OUTCOME_OK"}}, image), ev.NativeOutput)
    assert [(event.kind, event.maker, event.part) for event in events] == [
        ("executable_code", "gemini", 0),
        ("code_execution_result", "gemini", 1),
        ("inline_data", "gemini", 2),
    ]


def test_log_probabilities_have_chats_form() -> None:
    tokens = {"chosenCandidates": [{"token": "é", "logProbability": -0.5}], "topCandidates": [{"candidates": [{"token": "a", "logProbability": -1}]}]}
    told = [event for event in only(whole({"text": "é"}, candidate={"logprobsResult": tokens}), ev.TextDelta) if event.logprobs]
    top = [{"token": "a", "logprob": -1.0, "bytes": [97]}]
    assert json.loads(bytes(told[0].logprobs)) == {"content": [{"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": top}]}


def test_a_stream_of_several_candidates_is_whole_when_each_has_finished() -> None:
    one, two = body({"text": "a"}), body({"text": "b"}, candidate={"index": 1})
    assert [event.choice for event in only(streamed(one, two, choices=2), ev.Finished)] == [0, 1]
    with pytest.raises(e.StreamCut):
        streamed(one, choices=2)


@pytest.mark.parametrize("pieces", [[], [body({"text": "a"}, finish=None)]])
def test_a_stream_without_a_finish_was_cut(pieces: list[Json]) -> None:
    with pytest.raises(e.StreamCut):
        streamed(*pieces)


@pytest.mark.parametrize("bad", [b"", b"<html>", b"[]", b"{}", b'{"candidates":5}', b'{"candidates":[{}]}', b'{"a":"\xff"}', b"[" * 20000])
def test_what_is_no_answer_is_malformed(bad: bytes) -> None:
    with pytest.raises(e.MalformedResponse):
        GEMINI.decode_response(bad)


def test_an_error_object_in_a_stream_is_an_error() -> None:
    with pytest.raises(e.UpstreamOverloaded):
        streamed({"error": {"code": 503, "status": "UNAVAILABLE", "message": "secret"}})


def test_a_call_after_the_first_finish_reason_makes_the_finish_tool_calls_and_the_finish_comes_last() -> None:
    events = streamed(body({"text": "hm"}), body(CALL))
    assert only(events, ev.Finished) == [ev.Finished(finish=Finish("tool_calls", "STOP"))]
    assert [type(event) for event in events[-2:]] == [ev.Finished, ev.Ended]


def test_the_last_finish_reason_wins() -> None:
    assert only(streamed(body({"text": "a"}), body({"text": "b"}, finish="MAX_TOKENS")), ev.Finished) == [
        ev.Finished(finish=Finish("length", "MAX_TOKENS"))
    ]


def test_a_stream_is_settled_once_each_candidate_told_why_it_ended() -> None:
    decoder = GEMINI.stream_decoder(2)
    settled = []
    for index in (0, 1):
        decoder.feed(b"data: %b\n\n" % json.dumps(body({"text": "a"}, candidate={"index": index})).encode())
        settled.append(decoder.settled)
    assert settled == [False, True]


def test_calls_of_answers_without_an_id_never_share_theirs() -> None:
    answers = [only(whole(CALL, CALL, responseId=None), ev.ToolCallStarted) for _ in range(2)]
    assert len({event.id for events in answers for event in events}) == 4
