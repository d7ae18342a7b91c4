"""`recovery: continue` over real sockets: a stream that is cut goes on at another target, and client, upstream and ledger see the seam."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from tests.gateway.anthropic_upstream import events_of, message, says, text, thinking
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.continued_streams import data, read
from tests.gateway.upstream import Exchange, Play, Upstream, chunk, status

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: k, timeouts: {{idle_s: 0.3}}}}
  two: {{kind: vllm, base_url: "{two}"}}
  three: {{kind: vllm, base_url: "{two}"}}
  claude: {{kind: anthropic, base_url: "{one}", api_key: k}}
  other: {{kind: anthropic, base_url: "{two}", api_key: k}}
policies:
  mend: {{recovery: continue}}
models:
  pair: {{policy: mend, targets: [{{provider: one, model: m1}}, {{provider: two, model: m2}}]}}
  trio: {{policy: mend, targets: [{{provider: one, model: m1}}, {{provider: two, model: m2}}, {{provider: three, model: m3}}]}}
  unable: {{policy: mend, targets: [{{provider: one, model: m1}}, {{provider: one, model: m2}}]}}
  thinking: {{policy: mend, targets: [{{provider: claude, model: c1}}, {{provider: two, model: m2}}]}}
  thinker: {{targets: [{{provider: other, model: c2}}, {{provider: claude, model: c1}}]}}
  plain: {{targets: [{{provider: one, model: m1}}, {{provider: two, model: m2}}]}}
teams:
  search: {{keys: [{key}]}}
"""
ASKED: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 50}


@pytest.fixture
async def gateway(one: Upstream, two: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY), tmp_path) as gateway:
        yield gateway


async def told(x: Exchange, by: str, *texts: str) -> None:
    await x.start_stream()
    for delta in ({"role": "assistant", "content": ""}, *({"content": piece} for piece in texts)):
        await x.event({**chunk(delta), "id": f"chatcmpl-{by}", "model": by, "system_fingerprint": by})


def cut(*texts: str, by: str = "one") -> Play:
    async def play(x: Exchange) -> None:
        await told(x, by, *texts)
        x.reset()

    return play


def stalled(*texts: str) -> Play:
    async def play(x: Exchange) -> None:
        await told(x, "one", *texts)
        await x.wait_until_gone()

    return play


def whole(*texts: str, by: str = "two") -> Play:
    async def play(x: Exchange) -> None:
        await told(x, by, *texts)
        usage = {"prompt_tokens": 12, "completion_tokens": len(texts), "total_tokens": 12 + len(texts)}
        for last in (chunk({}, finish="stop"), chunk(None, usage=usage)):
            await x.event({**last, "id": f"chatcmpl-{by}", "model": by, "system_fingerprint": by})
        await x.event("[DONE]")
        await x.end_stream()

    return play


async def ask(gateway: Gateway, model: str = "pair") -> tuple[bytes, str]:
    """The stream and the request's id."""
    response = await gateway.post({"model": model, "messages": [{"role": "user", "content": "Hi"}], **ASKED})
    assert response.status_code == 200
    return response.content, response.headers["x-request-id"]


@pytest.mark.parametrize("first", [cut("The", " quick"), stalled("The", " quick")])
async def test_a_cut_stream_goes_on_from_its_exact_text(gateway: Gateway, one: Upstream, two: Upstream, first: Play) -> None:
    one.plays["m1"], two.plays["m2"] = first, whole(" brown", " fox")
    stream, request_id = await ask(gateway)
    answer = read("openai_chat", stream)
    assert (answer.text, answer.id, answer.finish) == ("The quick brown fox", "chatcmpl-one", "stop")
    assert answer.turnout == {"continued": [{"target": "two/m2", "at_characters": 9}], "usage_source": "estimated"}
    assert stream.count(b': turnout {"continued":{"target":"two/m2","at_characters":9}}\n\n') == 1
    (seen,) = two.journal
    assert seen.body["messages"] == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "The quick"}]
    assert seen.body["continue_final_message"] and not seen.body["add_generation_prompt"] and seen.body["max_tokens"] == 48
    before, after = await gateway.rows(request_id)
    assert (before.status, before.target, after.status, after.target) == ("cut", "one", "ok", "two")
    assert after.reason == "continued at 9 characters"


async def test_usage_is_of_both_parts_to_the_client_and_of_each_in_the_ledger(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    one.plays["m1"], two.plays["m2"] = cut("The", " quick"), whole(" brown", " fox", ".")
    stream, request_id = await ask(gateway)
    assert read("openai_chat", stream).tokens == (12 - 2, 2 + 3)
    before, after = await gateway.rows(request_id)
    assert before.usage.source == "estimated" and before.usage.output_visible in (2, 3)
    assert (after.usage.source, after.usage.output_visible, after.usage.input_uncached) == ("provider", 3, 12)


async def test_a_continuation_that_is_cut_goes_on_at_the_next_target(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    one.plays["m1"], two.plays["m2"], two.plays["m3"] = cut("The"), cut(" quick", by="two"), whole(" brown", " fox", by="three")
    answer = read("openai_chat", (await ask(gateway, "trio"))[0])
    assert (answer.text, answer.id) == ("The quick brown fox", "chatcmpl-one")
    assert answer.turnout["continued"] == [{"target": "two/m2", "at_characters": 3}, {"target": "three/m3", "at_characters": 9}]
    assert [seen.body["messages"][-1]["content"] for seen in two.journal] == ["The", "The quick"]


async def test_what_a_continuation_that_was_cut_had_read_is_estimated_with_the_text_before_it(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    text = "a word " * 20
    one.plays["m1"], two.plays["m2"], two.plays["m3"] = cut(text), cut(" and", by="two"), whole(" more", by="three")
    first, second, _ = await gateway.rows((await ask(gateway, "trio"))[1])
    assert first.usage.source == second.usage.source == "estimated"
    assert second.usage.input_uncached - first.usage.input_uncached >= len(text) // 5


async def test_a_target_that_refuses_to_go_on_is_passed_over(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    one.plays["m1"], two.plays["m2"], two.plays["m3"] = cut("The"), status(400), whole(" quick", by="three")
    stream, request_id = await ask(gateway, "trio")
    answer = read("openai_chat", stream)
    assert answer.text == "The quick" and [seam["target"] for seam in answer.turnout["continued"]] == ["three/m3"]
    assert [row.status for row in await gateway.rows(request_id)] == ["cut", "failed", "ok"]


async def test_a_content_filter_s_verdict_on_the_rest_is_told_and_not_routed_around(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    verdict = b'{"error":{"code":"content_filter","message":"CANARY","type":"invalid_request_error"}}'
    one.plays["m1"], two.plays["m2"], two.plays["m3"] = cut("The"), status(400, verdict), whole(" quick", by="three")
    stream, request_id = await ask(gateway, "trio")
    assert b'"code":"content_policy_violation"' in stream and b"[DONE]" not in stream and b"quick" not in stream and b"CANARY" not in stream
    assert [(row.target, row.status) for row in await gateway.rows(request_id)] == [("one", "cut"), ("two", "failed")]
    assert [seen.body["model"] for seen in two.journal] == ["m2"]


@pytest.mark.parametrize("model", ["unable", "plain"])
async def test_where_nobody_can_or_may_go_on_the_client_is_told_of_the_cut(gateway: Gateway, one: Upstream, two: Upstream, model: str) -> None:
    one.plays["m1"] = cut("The")
    stream, _ = await ask(gateway, model)
    assert b'"error":{' in stream and b"[DONE]" not in stream and b"turnout {" not in stream
    assert not two.journal and len(one.journal) == 1


async def test_an_answer_with_a_call_in_it_is_not_gone_on_with(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    async def calls(x: Exchange) -> None:
        await told(x, "one", "Let me see")
        await x.event(chunk({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]}))
        x.reset()

    one.plays["m1"] = calls
    stream, _ = await ask(gateway)
    assert b'"error":{' in stream and not two.journal


async def test_an_answer_that_was_stopped_for_its_content_is_not_taken_elsewhere(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    reading = asyncio.Event()

    async def filtered(x: Exchange) -> None:
        await told(x, "one", "The")
        await reading.wait()
        await x.event({"error": {"message": "no", "type": "invalid_request_error", "code": "content_policy_violation"}})
        await x.end_stream()

    one.plays["m1"] = filtered
    body = {"model": "pair", "messages": [{"role": "user", "content": "Hi"}], **ASKED}
    parts: list[bytes] = []
    async with gateway.http.stream("POST", "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"}) as response:
        async for part in response.aiter_bytes():
            parts.append(part)
            reading.set()
    assert b'"content_policy_violation"' in b"".join(parts) and not two.journal


async def test_where_nothing_visible_was_told_any_target_answers_anew(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"], one.plays["m2"] = cut("\n"), whole("The", " quick")
    answer = read("openai_chat", (await ask(gateway, "unable"))[0])
    assert answer.text == "\nThe quick" and [len(seen.body["messages"]) for seen in one.journal] == [1, 1]


async def test_a_rest_that_cannot_be_read_ends_its_upstream_too(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    async def strange(x: Exchange) -> None:
        await told(x, "two", " quick")
        await x.event({"choices": "many"})
        await x.wait_until_gone(5)

    one.plays["m1"], two.plays["m2"] = cut("The"), strange
    stream, _ = await ask(gateway)
    assert b"[DONE]" not in stream and b'"upstream_invalid_response"' in stream
    async with asyncio.timeout(2):
        await two.journal[0].gone.wait()


async def test_the_thought_before_a_seam_is_still_its_makers(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    async def thinks(x: Exchange) -> None:
        await x.start_stream()
        for event in events_of(message(thinking("hm"), text("The quick")))[:-3]:
            await x.raw_chunk(data(event, named=True))
        x.reset()

    one.plays["c1"], two.plays["m2"] = thinks, whole(" brown")
    body = {"model": "thinking", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
    stream = await gateway.post({**body, "stream": True}, path="/v1/messages")
    assert read("anthropic_messages", stream.content).text == "The quick brown"
    one.plays["c1"] = says(text("Well"))
    later = [*body["messages"], {"role": "assistant", "content": [thinking("hm"), text("The quick brown")]}, {"role": "user", "content": "And?"}]
    response = await gateway.post({**body, "model": "thinker", "messages": later}, path="/v1/messages")
    assert response.status_code == 200, response.text
    assert response.headers["x-turnout-target"] == "claude/c1"


async def test_a_message_goes_on_in_its_block(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    one.plays["m1"], two.plays["m2"] = cut("The", " quick"), whole(" brown", " fox")
    async with (
        AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0) as client,
        client.messages.stream(model="pair", max_tokens=50, messages=[{"role": "user", "content": "Hi"}]) as stream,
    ):
        message = await stream.get_final_message()
    assert [block.text for block in message.content if block.type == "text"] == ["The quick brown fox"]
    assert message.stop_reason == "end_turn" and message.usage.output_tokens == 4
    assert message.usage.input_tokens > 0  # the first target had told none when it was cut
    assert two.journal[0].body["messages"][-1] == {"role": "assistant", "content": "The quick"} and two.journal[0].body["continue_final_message"]


async def test_a_response_goes_on_and_a_later_one_refers_to_the_whole_of_it(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    one.plays["m1"], two.plays["m2"] = cut("The", " quick"), whole(" brown", " fox")
    async with gateway.sdk.responses.stream(model="pair", input="Hi") as stream:
        response = await stream.get_final_response()
    assert response.output_text == "The quick brown fox" and len(response.output) == 1
    one.plays["m1"] = whole("Well")
    async with gateway.sdk.responses.stream(model="pair", input="And?", previous_response_id=response.id) as later:
        await later.until_done()
    assert {"role": "assistant", "content": "The quick brown fox"} in one.journal[-1].body["messages"]


async def test_a_completion_goes_on_from_its_prompt(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    def piece(by: str, said: str, finish: str | None = None) -> str:
        choice = {"text": said, "index": 0, "logprobs": None, "finish_reason": finish}
        return json.dumps({"id": f"cmpl-{by}", "object": "text_completion", "created": 1, "model": by, "choices": [choice]})

    async def first(x: Exchange) -> None:
        await x.start_stream()
        await x.event(piece("one", " upon"))
        x.reset()

    async def second(x: Exchange) -> None:
        await x.start_stream()
        for event in (piece("two", " a time"), piece("two", "", "stop"), "[DONE]"):
            await x.event(event)
        await x.end_stream()

    one.plays["m1"], two.plays["m2"] = first, second
    response = await gateway.post({"model": "pair", "prompt": "Once", "stream": True, "max_tokens": 9}, path="/v1/completions")
    answer = read("openai_completions", response.content)
    assert (answer.text, answer.id, answer.finish) == (" upon a time", "cmpl-one", "stop")
    assert (two.journal[0].body["prompt"], two.journal[0].body["max_tokens"]) == ("Once upon", 8)


async def test_a_completion_without_a_limit_goes_on_however_long_it_is_by_then(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    """The API's own default of 16 tokens is none that every server has."""

    def piece(said: str, finish: str | None = None) -> str:
        choice = {"text": said, "index": 0, "logprobs": None, "finish_reason": finish}
        return json.dumps({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]})

    async def first(x: Exchange) -> None:
        await x.start_stream()
        for number in range(40):
            await x.event(piece(f" word{number}"))
        x.reset()

    async def second(x: Exchange) -> None:
        await x.start_stream()
        for event in (piece(" the end"), piece("", "stop"), "[DONE]"):
            await x.event(event)
        await x.end_stream()

    one.plays["m1"], two.plays["m2"] = first, second
    response = await gateway.post({"model": "pair", "prompt": "Once", "stream": True}, path="/v1/completions")
    answer = read("openai_completions", response.content)
    assert answer.text.endswith(" word39 the end") and len(two.journal) == 1
    assert two.journal[0].body["prompt"].endswith(" word39") and "max_tokens" not in two.journal[0].body
