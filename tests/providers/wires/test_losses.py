"""What counts as lost when a request is put in another provider's words."""

from providers.wires.losses import Losses
from providers.wires.openai_responses.request import decode_request


def test_a_member_that_only_its_own_dialect_knows_is_lost() -> None:
    losses = Losses()
    losses.lose_extra(decode_request(b'{"model": "m", "input": "hi", "previous_response_id": "resp_1", "service_tier": "flex"}'))
    assert (losses.fatal, losses.hints) == (["extra.previous_response_id"], ["extra.service_tier"])


def test_a_member_that_is_null_asks_for_nothing() -> None:
    losses = Losses()
    tool = b'{"type": "function", "name": "f", "parameters": {}, "output_schema": null}'
    losses.lose_extra(decode_request(b'{"model": "m", "input": "hi", "previous_response_id": null, "prompt": null, "tools": [' + tool + b"]}"))
    assert (losses.fatal, losses.hints) == ([], [])
