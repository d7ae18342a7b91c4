"""What counts as lost when a request is put in another provider's words."""

from providers.wires.losses import Losses
from providers.wires.openai_chat.request import decode_request as decode_chat
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


def lost_of_chat(members: str = "", message: str = "", call: str = "") -> tuple[list[str], list[str]]:
    """The losses of a conversation that began at OpenAI, whose client puts back what its SDK gave it."""
    earlier = (
        '{"role": "assistant", "content": "hi", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"%s}}]%s}'
    )
    messages = earlier % (call, message) + ', {"role": "tool", "tool_call_id": "c", "content": "x"}'
    losses = Losses()
    losses.lose_extra(decode_chat(f'{{"model": "m", "messages": [{messages}]{members}}}'.encode()))
    return losses.fatal, losses.hints


def test_the_empty_members_of_an_earlier_answer_ask_for_nothing() -> None:
    message = ', "annotations": [], "refusal": null, "audio": null, "parsed": null, "x": {}, "y": "", "z": {"a": null}'
    assert lost_of_chat(message=message, call=', "parsed_arguments": null') == ([], [])


def test_what_an_sdk_parsed_and_what_was_cited_before_are_hints() -> None:
    lost = lost_of_chat(message=', "annotations": [{"type": "url_citation"}], "parsed": {"a": 1}', call=', "parsed_arguments": {"a": 1}')
    assert lost == ([], ["messages.annotations", "messages.parsed", "messages.function.parsed_arguments"])


def test_what_is_left_within_a_call_s_function_is_named_in_full() -> None:
    assert lost_of_chat(call=', "mood": "good"') == (["messages.function.mood"], [])


def test_default_values_of_a_request_ask_for_nothing() -> None:
    members = ', "modalities": ["text"], "service_tier": "auto", "store": false, "user": "", "verbosity": "medium", "metadata": {}'
    assert lost_of_chat(members) == ([], [])
    losses = Losses()
    losses.lose_extra(decode_request(b'{"model": "m", "input": "hi", "truncation": "disabled", "background": false, "include": [], "user": ""}'))
    assert (losses.fatal, losses.hints) == ([], [])


def test_other_values_and_an_empty_search_do_ask() -> None:
    assert lost_of_chat(', "modalities": ["audio"], "web_search_options": {}')[0] == ["extra.modalities", "extra.web_search_options"]
