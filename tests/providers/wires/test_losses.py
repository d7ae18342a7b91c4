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


def test_what_is_done_anyway_is_not_lost() -> None:
    """Codex's own request: under a policy that drops nothing it must not be refused for what it is given."""
    losses = Losses()
    losses.lose_extra(decode_request(b'{"model": "m", "input": "hi", "store": false, "include": ["reasoning.encrypted_content"]}'))
    assert (losses.fatal, losses.hints) == ([], [])


def test_what_only_a_keeper_or_openai_s_own_tools_can_give_is_lost() -> None:
    losses = Losses()
    losses.lose_extra(decode_request(b'{"model": "m", "input": "hi", "store": true, "include": ["web_search_call.results"]}'))
    assert losses.hints == ["extra.store", "extra.include"]
