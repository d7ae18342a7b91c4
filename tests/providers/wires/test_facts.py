"""What a provider cannot do at all is taken out of a request, and told."""

import pytest

from contract import requests as r
from providers.wires.facts import Facts, honoured
from providers.wires.losses import Losses

ASKED = r.ChatRequest(model="m", messages=(r.Message(role="user", parts=(r.TextPart(text="Hi"),)),))


@pytest.mark.parametrize("effort", [None, "none", "minimal", "low", "medium", "high", "xhigh", "max", "default"])
def test_an_effort_that_has_a_meaning_is_kept(effort: str | None) -> None:
    losses, reasoning = Losses(), r.Reasoning(effort=effort)
    asked = r.ChatRequest(model="m", messages=ASKED.messages, reasoning=reasoning)
    assert honoured(asked, Facts(), losses).reasoning == reasoning and losses.fatal == []


def test_an_effort_that_nobody_knows_is_lost_and_told() -> None:
    losses = Losses()
    asked = r.ChatRequest(model="m", messages=ASKED.messages, reasoning=r.Reasoning(effort="bogus"))
    assert honoured(asked, Facts(), losses).reasoning is None and losses.fatal == ["reasoning"]


def test_a_request_that_asks_for_nothing_out_of_reach_stays_itself() -> None:
    losses = Losses()
    assert honoured(ASKED, Facts(), losses) is ASKED and losses.fatal == losses.hints == []
