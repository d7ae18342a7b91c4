"""A cut answer that another target goes on with is one whole stream: to the official SDKs, in every dialect, wherever it was cut."""

import json
from typing import Any, get_args

import pytest

from contract.call import Call, Dialect
from gateway.continuing import Continuation, Seam
from tests.gateway.continued_streams import CALL, QUESTIONS, START, TEXT, THINKING, answer, asked, data, read, text_so_far
from tests.providers.sse_oracle import events_of

DIALECTS: list[Dialect] = [name for name in get_args(Dialect) if name in QUESTIONS]
PIECES = ["The", " quick", " brown\n", "\n", "fox", " jumps", " over", "."]
WHOLE = "".join(PIECES)
CUTS = [(dialect, cut) for dialect in DIALECTS for cut in range(1, len(answer(dialect, PIECES, "one")))]
FINISHED = {"openai_chat": 3, "openai_completions": 3, "anthropic_messages": 2, "openai_responses": 1}  # events from the reason to stop to the end


def continued(call: Call, delivered: bytes, rest: list[bytes], target: str = "two", **how: Any) -> bytes:
    """What the client has in the end."""
    continuation = Continuation.of(call, delivered)
    assert continuation is not None
    return delivered + continuation.seam(target, **how) + b"".join(map(continuation.feed, rest))


def told_so_far(dialect: Dialect, pieces: list[str], by: str = "one") -> list[bytes]:
    """The events of an answer up to the last of its text."""
    events = answer(dialect, pieces, by)
    return events[: next(at for at in range(1, len(events)) if text_so_far(dialect, b"".join(events[:at])) == "".join(pieces))]


def pieces_after(text: str) -> list[str]:
    """The rest of the answer as another model would tell it, which begins with the white space that the call does not end with."""
    rest = WHOLE[len(text.rstrip()) :]
    return [rest[index : index + 3] for index in range(0, len(rest), 3)]


@pytest.mark.parametrize(("dialect", "cut"), CUTS)
def test_the_client_reads_one_whole_answer_wherever_it_was_cut(dialect: Dialect, cut: int) -> None:
    events = answer(dialect, PIECES, "one")
    delivered = b"".join(events[:cut])
    told = text_so_far(dialect, delivered)
    continuation = Continuation.of(asked(dialect), delivered)
    assert continuation is not None
    if cut > len(events) - FINISHED[dialect]:
        assert continuation.ending
        return
    rest = answer(dialect, pieces_after(told), "two")
    whole = read(dialect, delivered + continuation.seam("two") + b"".join(map(continuation.feed, rest)))
    first = read(dialect, b"".join(events))
    assert (whole.id, whole.model, whole.text, whole.finish) == (first.id, first.model, WHOLE, first.finish)
    assert whole.turnout == {"continued": [{"target": "two", "at_characters": len(told)}], "usage_source": "estimated"}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_rest_may_come_byte_by_byte(dialect: Dialect) -> None:
    delivered = b"".join(answer(dialect, PIECES, "one")[:6])
    rest = b"".join(answer(dialect, pieces_after(text_so_far(dialect, delivered)), "two"))
    assert read(dialect, continued(asked(dialect), delivered, [bytes([byte]) for byte in rest])).text == WHOLE


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_continuation_that_is_cut_is_continued_again(dialect: Dialect) -> None:
    call, delivered = asked(dialect), b"".join(told_so_far(dialect, PIECES[:3]))
    first = Continuation.of(call, delivered)
    assert first is not None
    told = text_so_far(dialect, delivered)
    delivered += first.seam("two") + b"".join(map(first.feed, told_so_far(dialect, pieces_after(told)[:3], "two")))
    again = text_so_far(dialect, delivered)
    assert len(told) < len(again) < len(WHOLE)
    second = Continuation.of(call, delivered, first.seams)
    assert second is not None
    rest = answer(dialect, pieces_after(again), "three")
    whole = read(dialect, delivered + second.seam("three") + b"".join(map(second.feed, rest)))
    assert whole.text == WHOLE and whole.id.endswith("-one")
    assert second.seams == (Seam("two", len(told)), Seam("three", len(again)))
    assert whole.turnout["continued"] == [{"target": "two", "at_characters": len(told)}, {"target": "three", "at_characters": len(again)}]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_answer_that_had_told_why_it_ended_needs_nothing_but_its_end(dialect: Dialect) -> None:
    events = answer(dialect, PIECES, "one")
    delivered = b"".join(events[: len(events) - FINISHED[dialect] + 1])
    continuation = Continuation.of(asked(dialect), delivered)
    if dialect == "openai_responses":  # whose last event tells it, and is the end
        assert continuation is None
        return
    assert continuation is not None
    assert read(dialect, delivered + continuation.ending).text == WHOLE


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_target_that_gave_nothing_leaves_no_trace_in_the_next_ones_answer(dialect: Dialect) -> None:
    delivered = b"".join(answer(dialect, PIECES, "one")[:6])
    continuation = Continuation.of(asked(dialect), delivered)
    assert continuation is not None
    continuation.seam("broken")
    continuation.feed(answer(dialect, ["x"], "broken")[0])
    rest = answer(dialect, pieces_after(text_so_far(dialect, delivered)), "two")
    whole = read(dialect, delivered + continuation.seam("two") + b"".join(map(continuation.feed, rest)))
    assert whole.text == WHOLE and [seam["target"] for seam in whole.turnout["continued"]] == ["two"]


def test_the_seam_is_a_comment_that_a_targets_name_cannot_break_out_of() -> None:
    continuation = Continuation.of(asked("openai_chat"), b"".join(answer("openai_chat", PIECES, "one")[:3]))
    assert continuation is not None
    seam = continuation.seam('one/m\n\ndata: {"x":1}\r')
    assert seam.startswith(b": turnout ") and seam.endswith(b"\n\n") and seam.count(b"\n") == 2 and b"\r" not in seam
    assert events_of(seam) == []
    assert json.loads(seam.removeprefix(b": turnout "))["continued"]["at_characters"] == len("The quick")


# --- what is asked for ---------------------------------------------------------------------------------------------------
SPENT = 4  # PIECES[:4] came in so many, the last of which is white space and asked for again


@pytest.mark.parametrize(
    ("dialect", "cut", "members"),
    [
        (
            "openai_chat",
            5,
            {
                "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "The quick brown"}],
                "max_completion_tokens": 97,
            },
        ),
        ("openai_completions", 4, {"prompt": "OnceThe quick brown", "max_tokens": 97}),
        (
            "openai_responses",
            8,
            {
                "input": [
                    {"role": "user", "content": "Hi"},
                    {"role": "assistant", "content": [{"type": "output_text", "text": "The quick brown"}]},
                ],
                "max_output_tokens": 97,
            },
        ),
        (
            "anthropic_messages",
            7,
            {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "The quick brown"}], "max_tokens": 97},
        ),
    ],
)
def test_the_rest_is_asked_for_by_a_call_that_ends_with_the_answers_text(dialect: Dialect, cut: int, members: dict[str, Any]) -> None:
    call = asked(dialect)
    continuation = Continuation.of(call, b"".join(answer(dialect, PIECES, "one")[:cut]))
    assert continuation is not None and continuation.characters == len("The quick brown\n\n")
    assert json.loads(continuation.call.body) == json.loads(call.body) | members
    assert {name: json.loads(bytes(raw)) for name, raw in continuation.call.fields.items()} == json.loads(continuation.call.body)
    assert (continuation.call.answered, continuation.call.stream, continuation.call.dialect) == ("The quick brown", True, dialect)


def call_for_rest(call: Call, pieces: list[str]) -> dict[str, Any]:
    continuation = Continuation.of(call, b"".join(answer(call.dialect, pieces, "one")[: 1 + len(pieces)]))
    assert continuation is not None
    body: dict[str, Any] = json.loads(continuation.call.body)
    return body


@pytest.mark.parametrize("begun", ["So ", [{"type": "text", "text": "So"}, {"type": "text", "text": " "}]])
def test_an_answer_that_the_client_began_itself_stays_one_message(begun: Any) -> None:
    call = asked("openai_chat", messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": begun}])
    body = call_for_rest(call, ["it", " goes"])
    assert body["messages"] == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "So it goes"}]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_answer_that_is_as_long_as_it_may_be_ends_there(dialect: Dialect) -> None:
    limit = next(name for name in QUESTIONS[dialect] if name.startswith("max_"))
    delivered = b"".join(told_so_far(dialect, ["a", "b", "c"]))
    continuation = Continuation.of(asked(dialect, **{limit: 3}), delivered)
    assert continuation is not None
    whole = read(dialect, delivered + continuation.ending)
    assert whole.text == "abc" and whole.finish in ("length", "max_tokens", "incomplete")


def test_pieces_of_many_tokens_are_counted_by_their_length() -> None:
    assert call_for_rest(asked("openai_chat"), ["four score and seven years ago ", "our fathers"])["max_completion_tokens"] == 100 - 42 // 4


def test_a_completion_without_a_limit_has_the_formats_own() -> None:
    call = asked("openai_completions", max_tokens=None)
    continuation = Continuation.of(call, b"".join(answer("openai_completions", PIECES, "one")[:4]))
    assert continuation is not None and json.loads(continuation.call.body)["max_tokens"] == 13


def test_the_rest_is_asked_for_without_more_thought() -> None:
    call = asked("anthropic_messages", thinking={"type": "enabled", "budget_tokens": 50})
    continuation = Continuation.of(call, b"".join(answer("anthropic_messages", PIECES, "one")[:5]))
    assert continuation is not None and "thinking" not in json.loads(continuation.call.body)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_where_nothing_visible_was_told_the_question_is_asked_as_it_was(dialect: Dialect) -> None:
    call, delivered = asked(dialect), b"".join(told_so_far(dialect, ["\n"]))
    continuation = Continuation.of(call, delivered)
    assert continuation is not None and continuation.call == call and continuation.characters == 1
    rest = answer(dialect, PIECES, "two")
    assert read(dialect, delivered + continuation.seam("two") + b"".join(map(continuation.feed, rest))).text == "\n" + WHOLE


# --- what the second target says again -----------------------------------------------------------------------------------
LONG = "It was the best of times, it was the worst of times,"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("before", ["", " ", "\n\n"])
def test_a_text_that_the_second_target_repeats_is_told_once(dialect: Dialect, before: str) -> None:
    delivered = b"".join(told_so_far(dialect, [LONG[:20], LONG[20:], " "]))
    rest = answer(dialect, [before + LONG[:9], LONG[9:40], LONG[40:] + " it", " was"], "two")
    assert read(dialect, continued(asked(dialect), delivered, rest)).text == LONG + " it was"


def chat_text(told: list[str], again: list[str], **how: Any) -> str:
    delivered = b"".join(answer("openai_chat", told, "one")[: 1 + len(told)])
    return read("openai_chat", continued(asked("openai_chat"), delivered, answer("openai_chat", again, "two"), **how)).text


@pytest.mark.parametrize(
    ("told", "again", "whole"),
    [
        (["ha"], ["ha", "!"], "haha!"),  # too short to be a repetition for sure
        ([LONG], [" It was the best of"], LONG + " It was the best of"),  # the text's beginning alone
        ([LONG], [LONG[:10]], LONG + LONG[:10]),
        ([LONG], [" It was not"], LONG + " It was not"),
        (["a\n"], ["\n", "\nb"], "a\n\nb"),  # the first of them is the one that was told
        (["a\n\n"], ["\n", "b"], "a\n\nb"),
        (["a "], ["b"], "a b"),
        (["a "], [" ", "\n"], "a \n"),
        (["a\n"], [], "a\n"),
        (["def f():\n  "], ["\n", "    return"], "def f():\n    return"),
    ],
)
def test_only_what_was_told_already_is_left_out(told: list[str], again: list[str], whole: str) -> None:
    assert chat_text(told, again) == whole


def test_a_target_that_is_known_to_repeat_is_not_believed_even_where_it_is_short() -> None:
    assert chat_text(["ha"], ["h", "a", " hum"], repeats=True) == "ha hum"
    assert chat_text(["ha"], ["rr"], repeats=True) == "harr"


# --- usage ---------------------------------------------------------------------------------------------------------------
CUTS = [("openai_chat", 5), ("openai_completions", 4), ("openai_responses", 8), ("anthropic_messages", 7)]  # each after PIECES[:4]
STOOD = SPENT - 1  # of them, in the second's prompt of 10


def question_of(dialect: Dialect) -> int:
    return 10 if dialect == "anthropic_messages" else 10 - STOOD  # the first of these had told its input


@pytest.mark.parametrize(("dialect", "cut"), CUTS)
@pytest.mark.parametrize(
    ("rest", "output"),
    [
        (["a", "b", "c"], SPENT + 3),
        (["\n", "b", "c"], STOOD + 3),  # the white space that was not sent is said again, and told once
        ([*PIECES[:4], "b", "c"], 6),  # all of it is
    ],
)
def test_usage_is_of_the_question_once_and_of_both_parts_of_the_answer(dialect: Dialect, cut: int, rest: list[str], output: int) -> None:
    delivered = b"".join(answer(dialect, PIECES, "one")[:cut])
    told = continued(asked(dialect), delivered, answer(dialect, rest, "two"), repeats=rest[0] == "The")
    assert read(dialect, told).tokens == (question_of(dialect), output)


def test_usage_is_told_only_to_a_client_that_asked() -> None:
    call = asked("openai_chat", stream_options=None)
    whole = read("openai_chat", continued(call, b"".join(answer("openai_chat", PIECES, "one")[:3]), answer("openai_chat", ["a"], "two")))
    assert whole.tokens is None and whole.turnout == {"continued": [{"target": "two", "at_characters": 9}]}


# --- other things in the answer ------------------------------------------------------------------------------------------
def test_an_answer_with_a_finished_thought_goes_on_from_its_text() -> None:
    delivered = b"".join([*START, *THINKING, *TEXT[:2]])
    continuation = Continuation.of(asked("anthropic_messages"), delivered)
    assert continuation is not None and continuation.call.answered == "The"
    assert (
        read("anthropic_messages", continued(asked("anthropic_messages"), delivered, answer("anthropic_messages", [" quick"], "two"))).text
        == "The quick"
    )


def test_the_rest_may_end_in_a_call() -> None:
    second = answer("anthropic_messages", [" quick"], "two")
    rest = [*second[:5], *CALL, *second[5:]]
    whole = continued(asked("anthropic_messages"), b"".join([*START, *THINKING, *TEXT[:2]]), rest)
    assert read("anthropic_messages", whole).text == "The quick"
    starts = [json.loads(text) for name, text in events_of(whole) if name == "content_block_start"]
    assert [(start["index"], start["content_block"]["type"]) for start in starts] == [(0, "thinking"), (1, "text"), (2, "tool_use")]


def test_a_response_goes_on_after_an_item_of_reasoning() -> None:
    events = [json.loads(text) for _, text in events_of(b"".join(answer("openai_responses", PIECES, "one")))]
    thought = {"type": "reasoning", "id": "rs-one", "summary": []}
    items = [{"type": f"response.output_item.{kind}", "output_index": 0, "item": thought} for kind in ("added", "done")]
    moved = [{**event, "output_index": 1} if "output_index" in event else event for event in events[2:8]]
    told = [{**event, "sequence_number": number} for number, event in enumerate([*events[:2], *items, *moved])]
    delivered = b"".join([data(event, named=True) for event in told])
    rest = answer("openai_responses", pieces_after(text_so_far("openai_responses", delivered)), "two")
    assert read("openai_responses", continued(asked("openai_responses"), delivered, rest)).text == WHOLE


def test_a_whole_response_is_kept_as_the_client_saw_it() -> None:
    delivered = b"".join(answer("openai_responses", PIECES, "one")[:8])
    continuation = Continuation.of(asked("openai_responses"), delivered)
    assert continuation is not None
    continuation.seam("two")
    b"".join(map(continuation.feed, answer("openai_responses", ["\n\nfox"], "two")))
    kept = json.loads(continuation.whole)
    assert kept["id"] == "resp-one" and kept["output"][0]["content"][0]["text"] == "The quick brown\n\nfox"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_error_after_the_seam_is_told_in_the_clients_stream(dialect: Dialect) -> None:
    continuation = Continuation.of(asked(dialect), b"".join(answer(dialect, PIECES, "one")[:6]))
    assert continuation is not None
    continuation.seam("two")
    told = continuation.in_band(b'{"error":{"message":"it broke","code":"upstream_stream_truncated"}}')
    ((name, text),) = events_of(told)
    if dialect == "openai_responses":
        failed = json.loads(text)
        assert name == "response.failed" and failed["sequence_number"] == 6 and failed["response"]["id"] == "resp-one"
    assert "it broke" in text
