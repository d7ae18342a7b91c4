"""Files of rows read piece by piece: wherever a chunk ends, the same rows at the same places, and never more than a row in memory."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch import reading
from batch.checking import OPENAI, Checking
from batch.reading import Unreadable, elements, lines

BODY = b' { "requests" : [ {"a": "x,]}\\" [", "b": [1, {"c": null}]} ,{"d": "\\\\"}\n, {"e":"\xc3\xa9"} ] } '
ROWS = [b'{"a": "x,]}\\" [", "b": [1, {"c": null}]}', b'{"d": "\\\\"}', b'{"e":"\xc3\xa9"}']


@pytest.mark.parametrize("chunk", range(20, len(BODY) + 1))
def test_elements_are_the_same_wherever_a_chunk_ends(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(reading, "CHUNK", chunk)
    found = list(elements(io.BytesIO(BODY), 1000))
    assert [piece.data for piece in found] == ROWS and [piece.line for piece in found] == [1, 2, 3]
    assert all(BODY[piece.at : piece.at + len(piece.data)] == piece.data for piece in found)


JSON = st.recursive(
    st.none() | st.text(max_size=8) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@given(st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=4), max_size=6), st.booleans())
def test_whatever_the_rows_hold_they_come_out_as_they_went_in(rows: list[dict[str, object]], spaced: bool) -> None:
    body = json.dumps({"requests": rows}, indent=2 if spaced else None, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert [json.loads(piece.data) for piece in elements(io.BytesIO(body), 1 << 20)] == rows


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"requests": [{"a": 1},]}',
        b'{"requests": [,]}',
        b'{"requests": [{"a": 1}',
        b'{"requests": []',
        b'{"requests": [{}}',
        b'{"requests": [{}], "x": 1}',
    ],
)
def test_what_is_no_batch_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(Unreadable):
        list(elements(io.BytesIO(body), 1000))


def test_a_row_that_is_too_long_is_refused_before_it_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CHUNK", 32)
    with pytest.raises(Unreadable, match="longer than 100"):
        list(elements(io.BytesIO(b'{"requests": [{"a": "' + b"x" * 10_000), 100))
    with pytest.raises(Unreadable, match="longer than 100"):
        list(lines(io.BytesIO(b"x" * 10_000), 100))
    assert [piece.data for piece in lines(io.BytesIO(b"x" * 100 + b"\n" + b"y" * 100), 100)] == [b"x" * 100 + b"\n", b"y" * 100]


def test_faults_are_told_up_to_a_number_and_rows_up_to_theirs() -> None:
    def fine(_: bytes) -> None:
        return

    row = {"custom_id": "", "method": "POST", "url": "/u", "body": {}}
    wrong = b"{}\n" * 300
    checking = Checking("openai", "/u", fine, OPENAI)
    assert list(checking.places(io.BytesIO(wrong))) == [] and len(checking.faults) == 100 and checking.faults[7].line == 8
    many = b"".join(json.dumps(row | {"custom_id": str(n)}).encode() + b"\n" for n in range(12))
    checking = Checking("openai", "/u", fine, OPENAI._replace(rows=10))
    list(checking.places(io.BytesIO(many)))
    assert [fault.code for fault in checking.faults] == ["too_many_requests"]
