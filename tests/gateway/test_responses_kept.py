"""Answers that are kept: by the provider, or by us for a target that keeps none; for their own team, and through a restart."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.responses_provider import Provider
from tests.gateway.upstream import Exchange, Upstream, completion, status

OTHER = "sk-other-team"
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  oai: {{kind: openai, base_url: "{one}", api_key: sk-one}}
  talk: {{kind: openai-compatible, base_url: "{two}", api_key: sk-two}}
models:
  native: {{targets: [{{provider: oai, model: m1}}]}}
  sibling: {{targets: [{{provider: talk, model: m2}}, {{provider: oai, model: m3}}]}}
  chatty: {{targets: [{{provider: talk, model: m2}}]}}
  both: {{targets: [{{provider: talk, model: m2}}, {{provider: oai, model: m1}}]}}
teams:
  search: {{keys: [{key}]}}
  other: {{keys: [{other}]}}
"""
Serve = Callable[[], contextlib.AbstractAsyncContextManager[Gateway]]


@pytest.fixture
def serve(one: Upstream, two: Upstream, tmp_path: Path) -> Serve:
    """Starts the gateway, as often as is wanted, over the same database."""
    one.plays = dict.fromkeys(("m1", "m3", ""), Provider("one"))
    return lambda: running(CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY, other=OTHER), tmp_path)


@pytest.fixture
async def gateway(serve: Serve) -> AsyncIterator[Gateway]:
    async with serve() as gateway:
        yield gateway


@pytest.fixture
async def stranger(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    """Another team's client."""
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=OTHER, max_retries=0) as client:
        yield client


async def said(two: Upstream) -> list[tuple[str, Any]]:
    return [(message["role"], message.get("content")) for message in two.journal[-1].body["messages"]]


CONVERSATION = [("user", "Hi"), ("assistant", "Hello there"), ("user", "And?")]


# --- kept by us ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_conversation_goes_on_at_a_target_that_keeps_nothing(gateway: Gateway, two: Upstream, streamed: bool) -> None:
    if streamed:
        async with gateway.sdk.responses.stream(model="chatty", input="Hi") as stream:
            first = (await stream.get_final_response()).id
    else:
        first = (await gateway.sdk.responses.create(model="chatty", input="Hi")).id
    second = await gateway.sdk.responses.create(model="chatty", input="And?", previous_response_id=first)
    assert await said(two) == CONVERSATION and second.previous_response_id == first
    await gateway.sdk.responses.create(model="chatty", input="So?", previous_response_id=second.id)
    assert await said(two) == [*CONVERSATION, ("assistant", "Hello there"), ("user", "So?")]


async def test_instructions_are_not_carried_over(gateway: Gateway, two: Upstream) -> None:
    first = await gateway.sdk.responses.create(model="chatty", input="Hi", instructions="one")
    await gateway.sdk.responses.create(model="chatty", input="And?", instructions="two", previous_response_id=first.id)
    assert await said(two) == [("system", "two"), *CONVERSATION]


async def test_a_conversation_goes_on_after_a_restart(serve: Serve, two: Upstream) -> None:
    async with serve() as gateway:
        first = (await gateway.sdk.responses.create(model="chatty", input="Hi")).id
    async with serve() as gateway:
        await gateway.sdk.responses.create(model="chatty", input="And?", previous_response_id=first)
        assert (await gateway.sdk.responses.retrieve(first)).output_text == "Hello there"
    assert await said(two) == CONVERSATION


async def test_what_we_keep_may_go_on_at_any_target(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    first = (await gateway.sdk.responses.create(model="chatty", input="Hi")).id
    two.plays["m2"] = status(500)
    answer = await gateway.sdk.responses.create(model="both", input="And?", previous_response_id=first)
    assert answer.output_text == "I am one" and "previous_response_id" not in one.journal[0].body
    assert [item["role"] for item in one.journal[0].body["input"]] == ["user", "assistant", "user"]


async def test_an_answer_that_must_not_be_stored_is_not(gateway: Gateway) -> None:
    first = await gateway.sdk.responses.create(model="chatty", input="Hi", store=False)
    with pytest.raises(openai.BadRequestError) as caught:
        await gateway.sdk.responses.create(model="chatty", input="And?", previous_response_id=first.id)
    assert caught.value.code == "previous_response_not_found" and caught.value.param == "previous_response_id"
    with pytest.raises(openai.NotFoundError):
        await gateway.sdk.responses.retrieve(first.id)


async def test_an_answer_of_ours_is_fetched_its_input_listed_and_deleted(gateway: Gateway) -> None:
    items: Any = [{"role": "user", "content": text} for text in ("a", "b", "c")]
    made = await gateway.sdk.responses.create(model="chatty", input=items)
    assert await gateway.sdk.responses.retrieve(made.id) == made
    listed = [item async for item in gateway.sdk.responses.input_items.list(made.id, limit=2, order="asc")]
    assert [item.content for item in listed] == ["a", "b", "c"]  # type: ignore[union-attr]
    newest = await gateway.sdk.responses.input_items.list(made.id, limit=1)
    assert newest.data[0].content == "c" and newest.has_more  # type: ignore[union-attr]
    assert (await gateway.sdk.responses.cancel(made.id)).status == "completed"
    await gateway.sdk.responses.delete(made.id)
    for gone in (gateway.sdk.responses.retrieve, gateway.sdk.responses.delete, gateway.sdk.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            await gone(made.id)


async def test_a_deleted_answer_stays_deleted_after_a_restart(serve: Serve) -> None:
    async with serve() as gateway:
        made = (await gateway.sdk.responses.create(model="chatty", input="Hi")).id
        await gateway.sdk.responses.delete(made)
    async with serve() as gateway:
        with pytest.raises(openai.NotFoundError):
            await gateway.sdk.responses.retrieve(made)


# --- kept by the provider --------------------------------------------------------------------------------------------
async def test_a_conversation_goes_on_where_it_is_kept_and_nowhere_else(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    first = (await gateway.sdk.responses.create(model="native", input="Hi")).id
    for model, sent in (("both", "m1"), ("sibling", "m3")):
        await gateway.sdk.responses.create(model=model, input="And?", previous_response_id=first)
        assert one.journal[-1].body == {"model": sent, "input": "And?", "previous_response_id": first}
    with pytest.raises(openai.BadRequestError) as caught:
        await gateway.sdk.responses.create(model="chatty", input="And?", previous_response_id=first)
    assert caught.value.code == "previous_response_not_found"
    one.plays["m1"] = status(500)
    with pytest.raises(openai.InternalServerError):
        await gateway.sdk.responses.create(model="both", input="And?", previous_response_id=first)
    assert two.journal == []


async def test_a_conversation_at_a_provider_goes_on_after_a_restart(serve: Serve, one: Upstream) -> None:
    async with serve() as gateway, gateway.sdk.responses.stream(model="native", input="Hi") as stream:
        first = (await stream.get_final_response()).id
    async with serve() as gateway:
        await gateway.sdk.responses.create(model="both", input="And?", previous_response_id=first)
        assert (await gateway.sdk.responses.retrieve(first)).id == first
    assert [seen.body["previous_response_id"] for seen in one.journal if seen.body and "previous_response_id" in seen.body] == [first]


async def test_an_answer_at_the_provider_is_fetched_listed_cancelled_and_deleted(gateway: Gateway, one: Upstream) -> None:
    made = await gateway.sdk.responses.create(model="native", input="Hi")
    assert (await gateway.sdk.responses.retrieve(made.id, include=["reasoning.encrypted_content"])).output_text == "I am one"
    assert one.journal[-1].head[":path"].startswith(f"/v1/responses/{made.id}?include") and one.journal[-1].head["authorization"] == "Bearer sk-one"
    page = await gateway.sdk.responses.input_items.list(made.id, after="msg_0", limit=5)
    assert page.data[0].id == "msg_in" and "after=msg_0" in one.journal[-1].head[":path"] and "limit=5" in one.journal[-1].head[":path"]
    assert (await gateway.sdk.responses.cancel(made.id)).status == "cancelled"
    await gateway.sdk.responses.delete(made.id)
    assert (one.journal[-1].head[":method"], one.journal[-1].head[":path"]) == ("DELETE", f"/v1/responses/{made.id}")
    with pytest.raises(openai.NotFoundError) as caught:
        await gateway.sdk.responses.retrieve(made.id)
    assert "CANARY" not in str(caught.value) and caught.value.code == "response_not_found"


async def test_a_kept_stream_is_not_taken_up_again(gateway: Gateway) -> None:
    made = await gateway.sdk.responses.create(model="native", input="Hi")
    with pytest.raises(openai.BadRequestError) as caught:
        await gateway.sdk.responses.retrieve(made.id, stream=True)
    assert caught.value.param == "stream"


# --- another team's --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("model", ["native", "chatty"])
async def test_another_team_s_answer_looks_like_one_that_never_was(gateway: Gateway, stranger: AsyncOpenAI, one: Upstream, model: str) -> None:
    made = (await gateway.sdk.responses.create(model=model, input="Hi")).id
    asked = len(one.journal)
    unknown = made[:-1] + ("x" if made[-1] != "x" else "y")
    tries: list[Callable[[str], Any]] = [
        stranger.responses.retrieve,
        stranger.responses.delete,
        stranger.responses.cancel,
        stranger.responses.input_items.list,
        lambda name: stranger.responses.create(model=model, input="And?", previous_response_id=name),
        lambda name: stranger.responses.create(model="both", input="And?", previous_response_id=name),
    ]
    for attempt in tries:
        told = []
        for name in (made, unknown):
            with pytest.raises((openai.NotFoundError, openai.BadRequestError)) as caught:
                await attempt(name)
            told.append((caught.value.status_code, str(caught.value).replace(name, "ID")))
        assert told[0] == told[1]
    assert len(one.journal) == asked, "and no provider was asked"
    assert (await gateway.sdk.responses.retrieve(made)).id == made, "it is still there for its own"


async def test_a_team_that_is_alone_may_go_on_from_what_the_provider_kept_before(one: Upstream, two: Upstream, tmp_path: Path) -> None:
    provider = one.plays["m1"] = Provider("one")
    provider.kept["resp_before"] = {}
    yaml = CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY, other=OTHER)
    async with running(yaml.partition("  other:")[0], tmp_path) as gateway:
        await gateway.sdk.responses.create(model="both", input="And?", previous_response_id="resp_before")
    assert one.journal[0].body["previous_response_id"] == "resp_before" and two.journal == []


async def test_an_answer_to_a_conversation_begun_elsewhere_is_the_provider_s_own(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    """What the other target sealed is taken out of the request; the answer passes, and is found where it is kept."""

    async def play(x: Exchange) -> None:
        message = {"role": "assistant", "content": "Hi", "reasoning_content": "hm"}
        await x.respond(200, json.dumps(completion(choices=[{"index": 0, "message": message, "finish_reason": "stop"}])).encode())

    two.plays["m2"] = play
    begun = await gateway.sdk.responses.create(model="chatty", input="Hi")
    items: Any = [*begun.output, {"role": "user", "content": "And?"}]
    answer = await gateway.sdk.responses.create(model="native", input=items)
    assert b"tnt1_" not in one.journal[0].raw and answer.id == "resp_one_1"
    async with gateway.sdk.responses.stream(model="native", input=items) as stream:
        assert (await stream.get_final_response()).id == "resp_one_2"
    for kept in ("resp_one_1", "resp_one_2"):
        await gateway.sdk.responses.create(model="both", input="So?", previous_response_id=kept)
