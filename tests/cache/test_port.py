"""An entry, and its form in a store."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.port import MAX_ANSWER, Entry, packed, unpacked


def entry(body: bytes, cuts: tuple[tuple[int, int], ...] = ()) -> Entry:
    return Entry(
        owner="o/t",
        request_id="req_1",
        target="one/m",
        headers=((b"content-type", b"application/json"),),
        body=body,
        cuts=cuts,
        made_at=1.5,
        cost_nusd=None,
    )


@given(st.binary(max_size=5000))
def test_an_entry_comes_back_as_it_was(body: bytes) -> None:
    kept = entry(body, ((len(body), 0),))
    assert unpacked(packed(kept)) == kept


def test_what_repeats_itself_takes_little_room() -> None:
    assert len(packed(entry(b"data: hello\n\n" * 1000))) < 1000


@pytest.mark.parametrize("data", [b"", b"x", b"p", b"pnonsense", b"z", b"znonsense", packed(entry(b"a"))[:-1], b"z" + zlib.compress(b"p")])
def test_what_is_no_entry_is_none(data: bytes) -> None:
    assert unpacked(data) is None


def test_an_entry_cut_short_is_none() -> None:
    data = packed(entry(b"data: hello\n\n" * 1000))
    assert data[:1] == b"z" and unpacked(data[:-3]) is None


def test_what_would_grow_beyond_any_entry_is_none() -> None:
    assert unpacked(b"z" + zlib.compress(bytes(3 * MAX_ANSWER))) is None


def test_the_pieces_are_the_body_with_their_times() -> None:
    kept = entry(b"abcdef", ((2, 0), (6, 1500)))
    assert list(kept.pieces()) == [(0.0, b"ab"), (1.5, b"cdef")]
