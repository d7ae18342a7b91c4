"""Seals come back as they went out, and nothing else is taken for one."""

import re

from hypothesis import given
from hypothesis import strategies as st

from providers.wires.losses import Losses
from providers.wires.seal import MARK, PREFIX, Seal, seal, unseal

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SEALS = st.builds(Seal, TEXTS, TEXTS, TEXTS, st.none() | TEXTS, st.booleans(), st.none() | TEXTS)


@given(SEALS)
def test_what_was_sealed_is_unsealed(value: Seal) -> None:
    text = seal(value)
    assert unseal(text) == value
    assert re.fullmatch(r"[A-Za-z0-9_-]+", text) and MARK in text.encode()


@given(TEXTS)
def test_other_text_is_no_seal(text: str) -> None:
    assert unseal(text) is None or text.startswith(PREFIX)
    assert unseal(PREFIX + text) is None or text


def test_a_loss_is_fatal_unless_it_is_a_hint_and_is_named_once() -> None:
    losses = Losses()
    for name in ("logprobs", "messages.cache_control", "extra.service_tier", "logprobs", "tools.strict", "messages.image"):
        losses.lose(name)
    assert losses.fatal == ["logprobs", "messages.image"]
    assert losses.hints == ["messages.cache_control", "extra.service_tier", "tools.strict"]
