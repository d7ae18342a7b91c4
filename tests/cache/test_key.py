"""What makes two requests the same, and that nothing else does."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.key import Asked, canonical, key_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def fields(body: bytes) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(body, type=dict[str, msgspec.Raw])


def asked(body: bytes = b'{"model":"m"}', **other: Any) -> Asked:
    plain: dict[str, Any] = {
        "organisation": "o",
        "team": "t",
        "endpoint": "/chat/completions",
        "dialect": "openai_chat",
        "route": ("r", "m", "one/m"),
        "generation": b"g",
        "headers": (),
    }
    return Asked(**(plain | other), fields=fields(body))


@given(st.dictionaries(st.text(), JSON, max_size=6), st.randoms())
def test_neither_the_order_of_the_members_nor_white_space_counts(body: dict[str, Any], random: Any) -> None:
    members = list(body.items())
    random.shuffle(members)
    spaced = msgspec.json.format(msgspec.json.encode(dict(members)), indent=3)
    assert key_of(asked(msgspec.json.encode(body))) == key_of(asked(spaced))


@given(st.dictionaries(st.text(), JSON, max_size=4), st.dictionaries(st.text(), JSON, max_size=4))
def test_two_bodies_have_one_key_only_if_they_are_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = {name: msgspec.json.encode(value) for name, value in one.items()} == {name: msgspec.json.encode(value) for name, value in other.items()}
    assert (key_of(asked(msgspec.json.encode(one))) == key_of(asked(msgspec.json.encode(other)))) == same


OTHERS: list[dict[str, Any]] = [
    {"organisation": "p"},
    {"team": "u"},
    {"endpoint": "/responses"},
    {"dialect": "openai_responses"},
    {"route": ("r", "m", "two/m")},
    {"route": ("r", "mone", "/m")},
    {"generation": b"h"},
    {"headers": ((b"anthropic-beta", b"x"),)},
    {"organisation": "ot", "team": ""},
    {"team": "t17", "endpoint": "/chat/completions"},
]


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_every_part_counts_and_none_runs_into_the_next(other: dict[str, Any]) -> None:
    assert key_of(asked()) != key_of(asked(**other))


def test_the_order_of_headers_does_not_count() -> None:
    one, two = (b"anthropic-version", b"1"), (b"anthropic-beta", b"2")
    assert key_of(asked(headers=(one, two))) == key_of(asked(headers=(two, one)))


def test_below_the_top_level_the_order_stays() -> None:
    """A model that answers by a schema does so in the order of its members."""
    assert canonical(fields(b'{"b": {"y":1, "x":2}, "a":[1, 2]}')) == b'{"a":[1,2],"b":{"y":1,"x":2}}'
    assert key_of(asked(b'{"s":{"x":1,"y":2}}')) != key_of(asked(b'{"s":{"y":2,"x":1}}'))


def test_a_number_and_a_string_are_the_same_however_they_are_written() -> None:
    assert canonical(fields(b'{"a": 1.0, "c": "\\u0041", "d": 1e2, "e": [0.50]}')) == b'{"a":1,"c":"A","d":100,"e":[0.5]}'
    assert canonical(fields(b'{"a": 9007199254740993, "b": [1e400, 1]}')) == b'{"a":9007199254740993,"b":[1e400,1]}'
    assert key_of(asked(b'{"a":true}')) != key_of(asked(b'{"a":1}')) != key_of(asked(b'{"a":"1"}'))
