"""What is read of an answer that passes: usage in any of its forms, errors under a 200, a stream's end; however the bytes are sliced."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import MalformedResponse, UpstreamError
from providers.passed import TAIL_BYTES, Tail, read_passed

USAGES: list[tuple[dict[str, Any], tuple[int | None, ...]]] = [
    ({"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}, (9, None, 4)),
    ({"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}, (9, None, 0)),
    ({"total_tokens": 12}, (12, None, None)),
    ({"input_tokens": 20, "output_tokens": 4, "input_token_details": {"audio_tokens": 15, "text_tokens": 5}}, (5, 15, 4)),
    ({"type": "duration", "seconds": 3}, (None, None, None)),
    ({"input_tokens": "many"}, (None, None, None)),
]


@pytest.mark.parametrize(("told", "classes"), USAGES, ids=[json.dumps(told) for told, _ in USAGES])
def test_usage_is_read_in_every_form(told: dict[str, Any], classes: tuple[int | None, ...]) -> None:
    usage = read_passed(json.dumps({"id": "x", "usage": told}).encode()).usage
    assert usage is not None and json.loads(bytes(usage.raw)) == told
    assert (usage.input_uncached, usage.audio_input, usage.output_visible) == classes


def test_images_are_apart_from_text_in_prompts_and_answers() -> None:
    told = {"input_tokens": 210, "output_tokens": 1100, "input_tokens_details": {"text_tokens": 10, "image_tokens": 200}}
    usage = read_passed(json.dumps({"usage": told | {"output_tokens_details": {"text_tokens": 44, "image_tokens": 1056}}}).encode()).usage
    assert usage is not None and (usage.input_uncached, usage.image_input, usage.output_visible, usage.image_output) == (10, 200, 44, 1056)
    whole = read_passed(json.dumps({"usage": told}).encode()).usage  # of an older model, which has one price for all that comes out
    assert whole is not None and (whole.output_visible, whole.image_output) == (1100, None)


@pytest.mark.parametrize("body", [b"[1]", b"{}", b'{"usage":null}', b'{"usage":3}', b'"text"'])
def test_an_answer_that_tells_no_usage_has_none(body: bytes) -> None:
    answer = read_passed(body)
    assert answer.usage is None and answer.body == body


def test_cohere_tells_what_it_bills_beside_the_answer() -> None:
    usage = read_passed(b'{"results":[],"meta":{"billed_units":{"search_units":1},"tokens":{"input_tokens":7}}}').usage
    assert usage is not None and usage.input_uncached == 7 and b"search_units" in bytes(usage.raw)


@pytest.mark.parametrize(("body", "error"), [(b"<html>", MalformedResponse), (b"", MalformedResponse), (b'{"error":{"code":1}}', UpstreamError)])
def test_what_is_no_answer_is_an_error(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_passed(body)


def test_an_absent_error_is_none() -> None:
    assert read_passed(b'{"error":null,"text":"x"}').usage is None


STREAM = b"".join(
    [
        b'event: speech.audio.delta\ndata: {"type":"speech.audio.delta","audio":"' + b"A" * 300 + b'"}\n\n',
        b'event: speech.audio.done\ndata: {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101}}\n\n',
    ]
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_a_streams_usage_and_end_are_found_however_it_is_sliced(cuts: list[int]) -> None:
    tail, places = Tail(), [0, *sorted(cuts), len(STREAM)]
    for start, end in pairwise(places):
        tail.see(STREAM[start:end])
    assert tail.ended and tail.usage is not None and (tail.usage.input_uncached, tail.usage.output_visible) == (14, 101)


@pytest.mark.parametrize("size", [1000, TAIL_BYTES, 16 * TAIL_BYTES])
def test_an_image_of_any_size_does_not_hide_the_end(size: int) -> None:
    tail = Tail()
    for piece in (b'data: {"type":"image_edit.completed","b64_json":"', b"A" * size, b'","usage":{"input_tokens":1,"output_tokens":2}}\n\n'):
        tail.see(piece)
    assert tail.ended and tail.usage is not None and tail.usage.output_visible == 2


@pytest.mark.parametrize("last", [b"data: [DONE]\n\n", b"event: transcript.text.done\ndata: {}\n\n"])
def test_any_word_for_the_end_is_one(last: bytes) -> None:
    tail = Tail()
    tail.see(b'data: {"type":"transcript.text.delta","delta":"I said \\"x.done\\""}\n\n')
    assert not tail.ended
    tail.see(last)
    assert tail.ended and tail.usage is None
