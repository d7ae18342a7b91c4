"""Endpoints that pass through to a provider that has them: images, audio, moderations, re-ranking; by the official SDK and by hand."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Play, Upstream, silent, status

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: sk-upstream-one}}
  two: {{kind: openai-compatible, base_url: "{two}", api_key: sk-upstream-two}}
  claude: {{kind: anthropic, base_url: "{one}", api_key: sk-claude}}
  ranks: {{kind: cohere, base_url: "{root}", api_key: sk-ranks}}
  resource: {{kind: azure, base_url: "{root}/openai", api_version: "2024-10-21", api_key: sk-azure}}
models:
  solo: {{targets: [{{provider: one, model: m1}}]}}
  pair: {{targets: [{{provider: one, model: m1}}, {{provider: two, model: m2}}]}}
  omni-moderation-latest: {{targets: [{{provider: one, model: judge}}]}}
  wrong: {{targets: [{{provider: claude, model: c1}}]}}
  second: {{targets: [{{provider: claude, model: c1}}, {{provider: two, model: m2}}]}}
  ranker: {{targets: [{{provider: ranks, model: rerank-1}}]}}
  painter: {{targets: [{{provider: resource, model: my-images, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 10}}}}]}}
teams:
  search: {{keys: [{key}]}}
  narrow: {{models: [solo], keys: [sk-narrow]}}
"""
PIXEL = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
IMAGE = {"created": 1, "data": [{"b64_json": "aGk="}], "usage": {"input_tokens": 9, "output_tokens": 100, "total_tokens": 109}}
FORM = {"file": ("a.wav", b"RIFF" + bytes(range(256)), "audio/wav")}


@pytest.fixture
async def gateway(one: Upstream, two: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    text = CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, root=one.base_url.removesuffix("/v1"), key=KEY)
    async with running(text, tmp_path) as gateway:
        yield gateway


def answer(body: Any, content_type: str = "application/json") -> Play:
    async def play(x: Exchange) -> None:
        await x.respond(200, body if isinstance(body, bytes) else json.dumps(body).encode(), content_type)

    return play


def events(*told: dict[str, Any]) -> Play:
    async def play(x: Exchange) -> None:
        await x.start_stream()
        for event in told:
            await x.raw_chunk(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        await x.end_stream()

    return play


async def form(gateway: Gateway, path: str, **fields: str) -> httpx2.Response:
    return await gateway.http.post(path, headers={"authorization": f"Bearer {KEY}"}, data=fields, files=FORM)


# --- images --------------------------------------------------------------------------------------------------------------
async def test_the_sdk_makes_an_image(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = answer(IMAGE)
    made = await gateway.sdk.images.generate(model="solo", prompt="a cat", size="1024x1024")
    assert made.data and made.data[0].b64_json == "aGk="
    seen = one.journal[-1]
    assert (seen.head[":path"], seen.head["authorization"]) == ("/v1/images/generations", "Bearer sk-upstream-one")
    assert seen.body == {"model": "m1", "prompt": "a cat", "size": "1024x1024"}


async def test_the_sdk_streams_an_image_and_its_usage_is_in_the_ledger(gateway: Gateway, one: Upstream) -> None:
    big = "A" * 100_000
    last = {"type": "image_generation.completed", "b64_json": big, "usage": IMAGE["usage"]}
    one.plays["m1"] = events({"type": "image_generation.partial_image", "b64_json": big, "partial_image_index": 0}, last)
    stream = await gateway.sdk.images.generate(model="solo", prompt="a cat", stream=True, partial_images=1)
    assert [event.type async for event in stream] == ["image_generation.partial_image", "image_generation.completed"]
    (row,) = await gateway.all_rows()
    assert (row.endpoint, row.stream, row.status, row.usage.input_uncached, row.usage.output_visible) == ("images.generations", True, "ok", 9, 100)


async def test_the_sdk_edits_an_image_and_only_the_model_is_renamed(gateway: Gateway, one: Upstream) -> None:
    one.plays[""] = answer(IMAGE)
    await gateway.sdk.images.edit(model="solo", image=("cat.png", PIXEL, "image/png"), prompt="a hat")
    seen = one.journal[-1]
    assert seen.head[":path"] == "/v1/images/edits" and seen.head["content-type"].startswith("multipart/form-data; boundary=")
    assert PIXEL in seen.raw and b'name="model"\r\n\r\nm1\r\n' in seen.raw and b"solo" not in seen.raw


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_the_sdk_varies_an_image(gateway: Gateway, one: Upstream) -> None:
    one.plays[""] = answer(IMAGE)
    assert (await gateway.sdk.images.create_variation(model="solo", image=("cat.png", PIXEL, "image/png"))).data
    assert one.journal[-1].head[":path"] == "/v1/images/variations"


async def test_azures_images_are_under_their_deployment_and_priced(gateway: Gateway, one: Upstream) -> None:
    one.plays["my-images"] = answer(IMAGE)
    got = await gateway.sdk.images.with_raw_response.generate(model="painter", prompt="a cat")
    assert one.journal[-1].head[":path"] == "/openai/deployments/my-images/images/generations?api-version=2024-10-21"
    assert one.journal[-1].head["api-key"] == "sk-azure"
    assert got.headers["x-turnout-cost-usd"] == "0.001009000"


# --- audio ---------------------------------------------------------------------------------------------------------------
async def test_the_sdk_gets_speech_byte_by_byte_as_it_came(gateway: Gateway, one: Upstream) -> None:
    sound = bytes(range(256)) * 1000
    one.plays["m1"] = answer(sound, "audio/mpeg")
    got = await gateway.sdk.audio.speech.create(model="solo", voice="alloy", input="Hello")
    assert got.content == sound and got.response.headers["content-type"] == "audio/mpeg"
    assert one.journal[-1].body == {"model": "m1", "voice": "alloy", "input": "Hello"}


async def test_speech_reaches_the_client_before_it_is_whole(gateway: Gateway, one: Upstream) -> None:
    heard = asyncio.Event()

    async def play(x: Exchange) -> None:
        await x.send(b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ntransfer-encoding: chunked\r\n\r\n")
        await x.raw_chunk(b"first")
        await heard.wait()
        await x.raw_chunk(b"second")
        await x.end_stream()

    one.plays["m1"] = play
    async with gateway.sdk.audio.speech.with_streaming_response.create(model="solo", voice="alloy", input="Hello") as got:
        pieces = got.iter_bytes()
        assert await anext(pieces) == b"first"
        heard.set()
        assert b"".join([piece async for piece in pieces]) == b"second"


async def test_speech_as_events_tells_its_usage(gateway: Gateway, one: Upstream) -> None:
    usage = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
    one.plays["m1"] = events({"type": "speech.audio.delta", "audio": "aGk="}, {"type": "speech.audio.done", "usage": usage})
    got = await gateway.sdk.audio.speech.create(model="solo", voice="alloy", input="Hello", stream_format="sse")
    assert b"speech.audio.done" in got.content
    (row,) = await gateway.all_rows()
    assert (row.usage.input_uncached, row.usage.output_visible) == (14, 101)


async def test_the_sdk_transcribes_a_file(gateway: Gateway, one: Upstream) -> None:
    told = {"input_tokens": 20, "output_tokens": 4, "total_tokens": 24, "input_token_details": {"audio_tokens": 15, "text_tokens": 5}}
    one.plays[""] = answer({"text": "Hello there", "usage": {"type": "tokens", **told}})
    got = await gateway.sdk.audio.transcriptions.create(model="solo", file=FORM["file"], language="en")
    assert got.text == "Hello there"
    assert FORM["file"][1] in one.journal[-1].raw and b'name="model"\r\n\r\nm1\r\n' in one.journal[-1].raw
    (row,) = await gateway.all_rows()
    assert (row.endpoint, row.model_sent) == ("audio.transcriptions", "m1")
    assert (row.usage.input_uncached, row.usage.audio_input, row.usage.output_visible) == (5, 15, 4)


async def test_the_sdk_streams_a_transcription(gateway: Gateway, one: Upstream) -> None:
    one.plays[""] = events({"type": "transcript.text.delta", "delta": "Hel"}, {"type": "transcript.text.done", "text": "Hello"})
    stream = await gateway.sdk.audio.transcriptions.create(model="solo", file=FORM["file"], stream=True)
    assert [event.type async for event in stream] == ["transcript.text.delta", "transcript.text.done"]
    (row,) = await gateway.all_rows()
    assert row.stream and row.usage is None


async def test_a_transcription_as_plain_text_stays_that(gateway: Gateway, one: Upstream) -> None:
    one.plays[""] = answer(b"Hello there\n", "text/plain; charset=utf-8")
    assert await gateway.sdk.audio.transcriptions.create(model="solo", file=FORM["file"], response_format="text") == "Hello there\n"


async def test_seconds_of_audio_are_kept_as_they_were_told_and_no_tokens(gateway: Gateway, one: Upstream) -> None:
    one.plays[""] = answer({"text": "x", "usage": {"type": "duration", "seconds": 3}})
    await gateway.sdk.audio.transcriptions.create(model="solo", file=FORM["file"])
    (row,) = await gateway.all_rows()
    assert (row.usage.input_uncached, row.usage.output_visible, row.cost_nusd) == (None, None, None)
    assert json.loads(bytes(row.usage.raw)) == {"type": "duration", "seconds": 3}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_the_sdk_translates_a_file(gateway: Gateway, one: Upstream) -> None:
    one.plays[""] = answer({"text": "Hello"})
    assert (await gateway.sdk.audio.translations.create(model="solo", file=FORM["file"])).text == "Hello"
    assert one.journal[-1].head[":path"] == "/v1/audio/translations"


# --- moderations and re-ranking ----------------------------------------------------------------------------------------------
async def test_the_sdk_moderates_with_the_model_that_is_meant_when_none_is_named(gateway: Gateway, one: Upstream) -> None:
    one.plays["judge"] = answer({"id": "modr-1", "model": "judge", "results": [{"flagged": False, "categories": {}, "category_scores": {}}]})
    got = await gateway.sdk.moderations.create(input="Hello")
    assert got.id == "modr-1" and one.journal[-1].body == {"input": "Hello", "model": "judge"}
    (row,) = await gateway.all_rows()
    assert (row.endpoint, row.model_asked, row.upstream_id) == ("moderations", "omni-moderation-latest", "modr-1")


RANKED = {"id": "r1", "results": [{"index": 1, "relevance_score": 0.9}]}


async def test_documents_are_ranked_by_a_server_that_has_our_path(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = answer({**RANKED, "usage": {"total_tokens": 12}})
    got = await gateway.post({"model": "solo", "query": "q", "documents": ["a", "b"]}, path="/v1/rerank")
    assert got.json()["results"] == RANKED["results"] and one.journal[-1].head[":path"] == "/v1/rerank"
    (row,) = await gateway.rows(got.headers["x-request-id"])
    assert (row.endpoint, row.usage.input_uncached) == ("rerank", 12)


async def test_documents_are_ranked_by_cohere_under_its_own_path(gateway: Gateway, one: Upstream) -> None:
    one.plays["rerank-1"] = answer({**RANKED, "meta": {"billed_units": {"search_units": 1}}})
    got = await gateway.post({"model": "ranker", "query": "q", "documents": ["a", "b"]}, path="/v1/rerank")
    assert got.status_code == 200 and one.journal[-1].head[":path"] == "/v2/rerank"
    (row,) = await gateway.rows(got.headers["x-request-id"])
    assert row.usage.input_uncached is None and b"search_units" in bytes(row.usage.raw)


# --- whom it goes to, and what may go wrong ------------------------------------------------------------------------------------
async def test_a_provider_without_the_endpoint_is_a_400_that_says_so(gateway: Gateway, one: Upstream) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await gateway.sdk.images.generate(model="wrong", prompt="a cat")
    assert "/images/generations" in caught.value.message and one.journal == []
    assert caught.value.body["request_id"] and caught.value.body["attempts"] == 1  # type: ignore[index]


async def test_a_target_without_the_endpoint_is_passed_over(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    two.plays["m2"] = answer(IMAGE)
    got = await gateway.sdk.images.with_raw_response.generate(model="second", prompt="a cat")
    assert got.headers["x-turnout-target"] == "two/m2" and one.journal == []


FAILURES: dict[str, Play] = {
    "500": status(500),
    "429": status(429),
    "401": status(401),
    "a page of HTML": answer(b"<html>CANARY</html>", "text/html"),
    "no JSON": answer(b"CANARY {", "application/json"),
    "an error object under 200": answer({"error": {"message": "CANARY-upstream-text", "code": "server_error"}}),
}


@pytest.mark.parametrize("play", FAILURES.values(), ids=FAILURES)
async def test_another_target_answers_when_the_first_fails(gateway: Gateway, one: Upstream, two: Upstream, play: Play) -> None:
    one.plays["m1"], two.plays["m2"] = play, answer(IMAGE)
    got = await gateway.sdk.images.with_raw_response.generate(model="pair", prompt="a cat")
    assert got.headers["x-turnout-target"] == "two/m2" and int(got.headers["x-turnout-attempts"]) >= 2


async def test_a_form_goes_whole_to_the_next_target_with_its_own_model(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    one.plays[""], two.plays[""] = status(503), answer({"text": "Hello"})
    assert (await gateway.sdk.audio.transcriptions.create(model="pair", file=FORM["file"])).text == "Hello"
    assert b'name="model"\r\n\r\nm2\r\n' in two.journal[-1].raw and FORM["file"][1] in two.journal[-1].raw


@pytest.mark.parametrize("play", FAILURES.values(), ids=FAILURES)
async def test_a_failure_is_told_in_our_words_only(gateway: Gateway, one: Upstream, play: Play) -> None:
    one.plays["m1"] = play
    got = await gateway.post({"model": "solo", "prompt": "a cat"}, path="/v1/images/generations")
    assert got.status_code in (429, 502) and "CANARY" not in got.text
    assert set(got.json()["error"]) == {"message", "type", "param", "code", "request_id", "attempts"}


async def test_a_cut_before_the_first_byte_is_mended_by_another_target(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    async def play(x: Exchange) -> None:
        await x.send(b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ntransfer-encoding: chunked\r\n\r\n")
        x.reset()

    one.plays["m1"], two.plays["m2"] = play, answer(b"sound", "audio/mpeg")
    got = await gateway.sdk.audio.speech.create(model="pair", voice="alloy", input="Hello")
    assert got.content == b"sound" and got.response.headers["x-turnout-target"] == "two/m2"


@pytest.mark.parametrize("framing", ["content-length: 0", "connection: close", "transfer-encoding: chunked"])
async def test_no_sound_at_all_is_no_answer(gateway: Gateway, one: Upstream, two: Upstream, framing: str) -> None:
    async def play(x: Exchange) -> None:
        await x.send(b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n%b\r\n\r\n" % framing.encode())
        if "chunked" in framing:
            await x.end_stream()
        x.writer.close()

    one.plays["m1"], two.plays["m2"] = play, answer(b"sound", "audio/mpeg")
    got = await gateway.post({"model": "pair", "voice": "alloy", "input": "Hello"}, path="/v1/audio/speech")
    assert got.content == b"sound" and got.headers["x-turnout-target"] == "two/m2"
    empty, _ = await gateway.rows(got.headers["x-request-id"])
    assert (empty.status, empty.error_code) == ("failed", "upstream_invalid_response")


async def test_the_transcript_of_a_silence_may_be_empty(gateway: Gateway, one: Upstream) -> None:
    one.default = answer(b"", "text/plain")
    got = await form(gateway, "/v1/audio/transcriptions", model="solo", response_format="text")
    assert (got.status_code, got.content) == (200, b"")


async def test_a_cut_after_the_first_bytes_ends_the_connection_and_not_the_answer(gateway: Gateway, one: Upstream) -> None:
    async def play(x: Exchange) -> None:
        await x.send(b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ntransfer-encoding: chunked\r\n\r\n")
        await x.raw_chunk(b"first")
        await asyncio.sleep(0.05)  # so that it is not lost with the reset
        x.reset()

    one.plays["m1"] = play
    with pytest.raises(httpx2.RemoteProtocolError):
        await gateway.post({"model": "solo", "voice": "alloy", "input": "Hello"}, path="/v1/audio/speech")
    (row,) = await gateway.all_rows()
    assert row.status == "cut"


async def test_an_event_stream_without_its_last_event_ends_in_an_error(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = events({"type": "image_generation.partial_image", "b64_json": "aGk=", "partial_image_index": 0})
    stream = await gateway.sdk.images.generate(model="solo", prompt="a cat", stream=True)
    assert (await anext(stream)).type == "image_generation.partial_image"
    with pytest.raises(openai.APIError):
        await anext(stream)
    (row,) = await gateway.all_rows()
    assert (row.status, row.error_code) == ("cut", "upstream_stream_truncated")


async def test_a_client_that_leaves_stops_the_upstream(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = silent
    asking = asyncio.create_task(gateway.post({"model": "solo", "voice": "alloy", "input": "Hello"}, path="/v1/audio/speech"))
    while not one.journal:
        await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait_for(one.journal[0].gone.wait(), 5)


# --- who may ask, and how ------------------------------------------------------------------------------------------------------
async def test_without_a_key_nothing_passes(gateway: Gateway, one: Upstream) -> None:
    assert (await gateway.post({"model": "solo", "prompt": "x"}, key=None, path="/v1/images/generations")).status_code == 401
    assert one.journal == []


async def test_a_team_may_not_reach_a_model_that_is_not_its_own(gateway: Gateway) -> None:
    assert (await gateway.post({"model": "pair", "prompt": "x"}, key="sk-narrow", path="/v1/images/generations")).status_code == 404


async def test_an_unknown_model_is_a_404(gateway: Gateway) -> None:
    assert (await gateway.post({"model": "nobody", "query": "x"}, path="/v1/rerank")).status_code == 404


async def test_a_form_without_a_model_is_a_400_that_names_it(gateway: Gateway) -> None:
    got = await form(gateway, "/v1/audio/transcriptions", language="de")
    assert (got.status_code, got.json()["error"]["param"]) == (400, "model")


async def test_json_where_a_form_is_wanted_is_a_415(gateway: Gateway) -> None:
    assert (await gateway.post({"model": "solo"}, path="/v1/audio/transcriptions")).status_code == 415


async def test_a_form_where_json_is_wanted_is_a_415(gateway: Gateway) -> None:
    assert (await form(gateway, "/v1/images/generations", model="solo")).status_code == 415


@pytest.mark.parametrize("path", ["/v1/rerank", "/v1/moderations", "/v1/images/generations", "/v1/audio/speech"])
async def test_another_method_is_a_405(gateway: Gateway, path: str) -> None:
    got = await gateway.http.get(path, headers={"authorization": f"Bearer {KEY}"})
    assert got.status_code == 405
