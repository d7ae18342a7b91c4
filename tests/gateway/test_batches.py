"""`/v1/files` and `/v1/batches` through the official SDK: rows are asked, each comes to one end, and the files say which."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from tests.gateway.batching import COST_NUSD, chat, config, ended, jsonl, lines, made, row, until
from tests.gateway.conftest import Gateway, running
from tests.gateway.upstream import Exchange, Upstream, completion, silent, status


@pytest.fixture
async def gateway(one: Upstream, two: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(config(f"sqlite:///{tmp_path}/turnout.db", one.base_url, two.base_url), tmp_path) as gateway:
        yield gateway


async def echo(x: Exchange) -> None:
    """Says what it was asked."""
    await x.respond(200, json.dumps(completion(x.seen.body["messages"][-1]["content"])).encode())


async def test_each_row_is_answered_once_charged_once_and_found_by_its_custom_id(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = echo
    batch = await made(gateway.sdk, [row(f"row {n}") for n in range(100)], metadata={"of": "tests"})
    assert batch.status == "validating" and batch.metadata == {"of": "tests"}
    batch = await ended(gateway.sdk, batch)
    assert batch.status == "completed" and batch.error_file_id is None
    assert batch.request_counts is not None and (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (
        100,
        100,
        0,
    )
    assert batch.usage is not None and (batch.usage.input_tokens, batch.usage.output_tokens) == (2000, 500)
    answers = await lines(gateway.sdk, batch.output_file_id)
    assert {id: line["response"]["body"]["choices"][0]["message"]["content"] for id, line in answers.items()} == {
        f"row {n}": f"row {n}" for n in range(100)
    }
    assert all(line["response"]["status_code"] == 200 and line["error"] is None for line in answers.values())
    rows = await gateway.all_rows()
    assert len(one.journal) == len(rows) == 100 and {each.endpoint for each in rows} == {"batch.chat.completions"}
    assert sum(each.cost_nusd for each in rows if each.billed == "team") == 100 * COST_NUSD
    assert batch.model_extra is not None and batch.model_extra["turnout"]["cost_usd"] == pytest.approx(100 * COST_NUSD / 1e9)
    assert {line["response"]["request_id"] for line in answers.values()} == {each.request_id for each in rows}


async def test_a_row_s_failure_is_its_own_and_stands_in_the_file_of_errors(gateway: Gateway, one: Upstream) -> None:
    async def some(x: Exchange) -> None:
        await (status(400) if "bad" in x.seen.body["messages"][-1]["content"] else echo)(x)

    one.plays["m1"] = some
    batch = await ended(gateway.sdk, await made(gateway.sdk, [row("good 1"), row("bad 1"), row("good 2")]))
    assert batch.status == "completed" and batch.request_counts is not None and batch.request_counts.failed == 1
    assert set(await lines(gateway.sdk, batch.output_file_id)) == {"good 1", "good 2"}
    (line,) = (await lines(gateway.sdk, batch.error_file_id)).values()
    assert line["custom_id"] == "bad 1" and line["response"]["status_code"] == 400 and "CANARY" not in json.dumps(line)


async def test_a_row_that_fails_by_chance_is_asked_again_elsewhere(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    one.plays["m1"], two.plays["m2"] = status(500), echo
    batch = await ended(gateway.sdk, await made(gateway.sdk, [row(f"r{n}", chat("hello", "pair")) for n in range(5)]))
    assert len(await lines(gateway.sdk, batch.output_file_id)) == 5
    assert batch.model_extra is not None and batch.model_extra["turnout"]["targets"] == {"two": 5}


async def test_what_a_row_cost_is_unknown_where_its_price_is(one: Upstream, tmp_path: Path) -> None:
    text = config(f"sqlite:///{tmp_path}/turnout.db", one.base_url)
    async with running(text.replace(", price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}", ""), tmp_path) as gateway:
        batch = await ended(gateway.sdk, await made(gateway.sdk, [row("a"), row("b")]))
    assert batch.model_extra is not None and batch.model_extra["turnout"]["unpriced_rows"] == 2


async def test_a_row_outlives_a_target_that_is_down_for_a_while(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = [status(429, retry_after="1"), echo]
    batch = await ended(gateway.sdk, await made(gateway.sdk, [row("a")]))
    assert set(await lines(gateway.sdk, batch.output_file_id)) == {"a"}


EMBEDDING = {"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 3}}
TEXT = {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [{"index": 0, "text": "yes", "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("endpoint", "asked", "answer"),
    [
        ("/v1/embeddings", {"model": "solo", "input": "x"}, EMBEDDING),
        ("/v1/completions", {"model": "solo", "prompt": "x"}, TEXT),
        ("/v1/responses", {"model": "solo", "input": "x"}, completion("yes")),
    ],
)
async def test_every_endpoint_of_a_batch(gateway: Gateway, one: Upstream, endpoint: str, asked: dict[str, str], answer: object) -> None:
    async def play(x: Exchange) -> None:
        await x.respond(200, json.dumps(answer).encode())

    one.plays["m1"] = play
    batch = await ended(gateway.sdk, await made(gateway.sdk, [row("a", asked, endpoint)], endpoint))
    (line,) = (await lines(gateway.sdk, batch.output_file_id)).values()
    assert (
        line["response"]["body"]["object"] == {"/v1/embeddings": "list", "/v1/completions": "text_completion", "/v1/responses": "response"}[endpoint]
    )


FAULTS = [
    (b'{"custom_id": "a"', "invalid_json_line", 2),
    (jsonl([{"custom_id": "b", "url": "/v1/chat/completions", "body": {}}]), "invalid_request", 2),
    (jsonl([row("a")]), "duplicate_custom_id", 2),
    (jsonl([row("b", url="/v1/embeddings")]), "mismatched_url", 2),
    (jsonl([row("b", {"model": "solo"})]), "invalid_request", 2),
    (jsonl([row("b", chat("x", stream=True))]), "stream_not_supported", 2),
    (b"\n\n" + jsonl([row("b", chat("x", "nobody's"))]), "model_not_found", 4),
    (b'{"custom_id": "b", "method": "POST", "url": "/v1/chat/completions", "body": "\xff"}', "invalid_json_line", 2),
    (b"\xef\xbb\xbf" + jsonl([row("b")]), "invalid_json_line", 2),
]


@pytest.mark.parametrize(("second", "code", "line"), FAULTS)
async def test_a_file_with_a_fault_is_refused_whole_by_its_line(gateway: Gateway, one: Upstream, second: bytes, code: str, line: int) -> None:
    batch = await ended(gateway.sdk, await made(gateway.sdk, jsonl([row("a")]) + second))
    assert batch.status == "failed" and batch.errors is not None and batch.errors.data is not None
    assert [(error.code, error.line) for error in batch.errors.data] == [(code, line)]
    assert one.journal == [] and await gateway.all_rows() == []


async def test_an_empty_file_and_a_model_of_others_are_refused(gateway: Gateway) -> None:
    batch = await ended(gateway.sdk, await made(gateway.sdk, b"\n"))
    assert batch.errors is not None and batch.errors.data is not None and batch.errors.data[0].code == "empty_file"
    narrow = gateway.sdk.with_options(api_key="sk-narrow")
    batch = await ended(narrow, await made(narrow, [row("a", chat("x", "pair"))]))
    assert batch.errors is not None and batch.errors.data is not None and batch.errors.data[0].code == "model_not_found"


async def test_a_cancelled_batch_stops_its_upstreams_and_keeps_what_was_answered(gateway: Gateway, one: Upstream) -> None:
    async def some(x: Exchange) -> None:
        await (echo if x.seen.body["messages"][-1]["content"] == "first" else silent)(x)

    one.plays["m1"] = some
    batch = await made(gateway.sdk, [row("first"), *(row(f"r{n}") for n in range(40))])
    batch = await until(gateway.sdk, batch, lambda each: each.request_counts is not None and each.request_counts.completed == 1)
    async with asyncio.timeout(30):
        while len(one.journal) < 17:
            await asyncio.sleep(0.01)
    await gateway.sdk.batches.cancel(batch.id)
    asked = [seen for seen in one.journal if seen.body["messages"][-1]["content"] != "first"]
    async with asyncio.timeout(30):
        await asyncio.gather(*(seen.gone.wait() for seen in asked))
    batch = await ended(gateway.sdk, batch)
    assert batch.status == "cancelled" and batch.cancelled_at is not None and len(one.journal) == 17
    assert set(await lines(gateway.sdk, batch.output_file_id)) == {"first"}
    errors = await lines(gateway.sdk, batch.error_file_id)
    assert set(errors) == {f"r{n}" for n in range(40)} and {line["error"]["code"] for line in errors.values()} == {"batch_cancelled"}
    assert (await gateway.sdk.batches.cancel(batch.id)).status == "cancelled"


async def test_a_batch_may_be_cancelled_at_any_moment(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = echo
    for moment in range(15):
        batch = await made(gateway.sdk, [row(f"r{n}") for n in range(60)])
        await asyncio.sleep(moment / 100)
        await gateway.sdk.batches.cancel(batch.id)
        batch = await ended(gateway.sdk, batch)
        found = {**await lines(gateway.sdk, batch.output_file_id), **await lines(gateway.sdk, batch.error_file_id)}
        assert batch.request_counts is not None and len(found) == batch.request_counts.total in (0, 60), batch


async def test_a_batch_whose_time_is_over_expires_with_what_it_has(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = [echo, silent]
    batch = await made(gateway.sdk, [row("a"), row("b"), row("c")])
    batch = await until(gateway.sdk, batch, lambda each: each.request_counts is not None and each.request_counts.completed == 1)
    with gateway.runtime.ledger.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE batches SET expires_at_us = 1")
    batch = await ended(gateway.sdk, batch)
    assert batch.status == "expired" and batch.expired_at is not None
    assert len(await lines(gateway.sdk, batch.output_file_id)) == 1
    assert {line["error"]["code"] for line in (await lines(gateway.sdk, batch.error_file_id)).values()} == {"batch_expired"}


async def test_batches_and_files_are_listed_in_pages(gateway: Gateway) -> None:
    batches = [await made(gateway.sdk, [row("a")]) for _ in range(3)]
    found = [batch.id async for batch in gateway.sdk.batches.list(limit=2)]
    assert found == [batch.id for batch in reversed(batches)]
    files = [file.id async for file in gateway.sdk.files.list(purpose="batch", limit=2, order="asc")]
    assert files == [batch.input_file_id for batch in batches]
    for batch in batches:
        await ended(gateway.sdk, batch)
    assert len([file async for file in gateway.sdk.files.list(purpose="batch_output")]) == 3


async def test_a_file_is_kept_byte_for_byte_until_it_is_deleted(gateway: Gateway, tmp_path: Path) -> None:
    data = os.urandom(3_000_000) + b"\r\n--boundary\r\n"
    file = await gateway.sdk.files.create(file=("a name.jsonl", data), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600})
    assert (file.filename, file.bytes, file.purpose) == ("a name.jsonl", len(data), "batch") and file.expires_at == file.created_at + 3600
    assert (await gateway.sdk.files.content(file.id)).content == data
    assert (await gateway.sdk.files.retrieve(file.id)).id == file.id
    assert (await gateway.sdk.files.delete(file.id)).deleted
    for call in (gateway.sdk.files.retrieve, gateway.sdk.files.content, gateway.sdk.files.delete):
        with pytest.raises(openai.NotFoundError):
            await call(file.id)
    assert list((tmp_path / "files").iterdir()) == []


async def test_a_file_that_a_batch_reads_is_not_deleted(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = silent
    batch = await made(gateway.sdk, [row("a")])
    with pytest.raises(openai.BadRequestError, match="cancel it first"):
        await gateway.sdk.files.delete(batch.input_file_id)
    await gateway.sdk.batches.cancel(batch.id)
    await ended(gateway.sdk, batch)
    assert (await gateway.sdk.files.delete(batch.input_file_id)).deleted


@pytest.mark.parametrize(
    "form",
    [
        {"data": {"purpose": "batch"}},
        {"files": {"file": ("a", b"x")}},
        {"files": {"file": ("a", b"x")}, "data": {"purpose": "vision"}},
        {"files": {"other": ("a", b"x")}, "data": {"purpose": "batch"}},
        {"files": {"file": ("a", b"x")}, "data": {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "5"}},
    ],
)
async def test_a_form_that_lacks_something_is_refused_and_leaves_nothing(gateway: Gateway, tmp_path: Path, form: dict[str, object]) -> None:
    answer = await gateway.http.post("/v1/files", headers={"authorization": "Bearer sk-test-key"}, **form)  # type: ignore[arg-type]
    assert answer.status_code in (400, 415), answer.text
    assert list((tmp_path / "files").glob("*")) == []


async def test_what_a_batch_may_not_say_is_refused(gateway: Gateway) -> None:
    file = await gateway.sdk.files.create(file=("a", jsonl([row("a")])), purpose="batch")
    good = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    for wrong in (
        {"endpoint": "/v1/videos"},
        {"completion_window": "9d"},
        {"completion_window": "soon"},
        {"input_file_id": "file-none"},
        {"more": 1},
    ):
        answer = await gateway.post({**good, **wrong}, path="/v1/batches")
        assert answer.status_code == 400 and answer.json()["error"]["param"], answer.text


async def test_a_gateway_that_stops_gives_its_rows_back_and_the_next_one_goes_on(one: Upstream, tmp_path: Path) -> None:
    """Not one row is lost, none is charged twice."""
    text = config(f"sqlite:///{tmp_path}/turnout.db", one.base_url, concurrency=4)
    slow = asyncio.Event()

    async def held(x: Exchange) -> None:
        if not slow.is_set() and len(one.journal) > 20:
            await silent(x)
        else:
            await echo(x)

    one.plays["m1"] = held
    async with running(text, tmp_path) as gateway:
        batch = await made(gateway.sdk, [row(f"r{n}") for n in range(50)])
        async with asyncio.timeout(30):
            while len(one.journal) < 24:
                await asyncio.sleep(0.01)
    slow.set()
    async with running(text, tmp_path) as gateway:
        batch = await ended(gateway.sdk, batch)
        assert set(await lines(gateway.sdk, batch.output_file_id)) == {f"r{n}" for n in range(50)}
        rows = await gateway.all_rows()
    assert sum(each.cost_nusd or 0 for each in rows if each.billed == "team") == 50 * COST_NUSD
    assert len(one.journal) <= 54


async def test_live_requests_are_answered_while_a_batch_runs(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = echo
    batch = await made(gateway.sdk, [row(f"r{n}") for n in range(500)])
    answers = [await gateway.post(chat("live")) for _ in range(20)]
    assert all(answer.status_code == 200 for answer in answers)
    assert (await ended(gateway.sdk, batch)).status == "completed"


async def test_a_key_that_is_no_more_asks_nothing(one: Upstream, tmp_path: Path) -> None:
    text = config(f"sqlite:///{tmp_path}/turnout.db", one.base_url, more=", attempts: 2")
    one.plays["m1"] = silent
    async with running(text, tmp_path) as gateway:
        batch = await made(gateway.sdk, [row("a")])
        async with asyncio.timeout(30):
            while not one.journal:
                await asyncio.sleep(0.01)
    async with running(text.replace("search: {keys: [sk-test-key]", "search: {keys: [sk-other]"), tmp_path) as gateway:
        batch = await ended(gateway.sdk.with_options(api_key="sk-other"), batch)
        (line,) = (await lines(gateway.sdk.with_options(api_key="sk-other"), batch.error_file_id)).values()
    assert line["response"]["status_code"] == 401 and len(one.journal) == 1


async def test_what_is_old_goes_with_its_files(one: Upstream, tmp_path: Path) -> None:
    text = config(f"sqlite:///{tmp_path}/turnout.db", one.base_url, more=", retention_days: 1")
    async with running(text, tmp_path) as gateway:
        kept = {"output_expires_after": {"anchor": "created_at", "seconds": 7200}}
        batch = await ended(gateway.sdk, await made(gateway.sdk, [row("a")], **kept))
        output = await gateway.sdk.files.retrieve(batch.output_file_id or "")
        assert output.expires_at == output.created_at + 7200
        with gateway.runtime.ledger.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE batches SET ended_at_us = 1")
            connection.exec_driver_sql("UPDATE files SET expires_at_us = 1")
        with pytest.raises(openai.NotFoundError):
            await gateway.sdk.files.content(output.id)
    async with running(text, tmp_path) as gateway:
        async with asyncio.timeout(30):
            while list((tmp_path / "files").iterdir()):
                await asyncio.sleep(0.02)
        with pytest.raises(openai.NotFoundError):
            await gateway.sdk.batches.retrieve(batch.id)


async def test_a_late_answer_is_not_the_row_s_and_is_paid_by_the_gateway(gateway: Gateway, one: Upstream) -> None:
    """Another worker took the row over while this one waited for its provider."""
    asked, go = asyncio.Event(), asyncio.Event()

    async def held(x: Exchange) -> None:
        asked.set()
        await go.wait()
        await echo(x)

    one.plays["m1"] = held
    batch = await made(gateway.sdk, [row("a")])
    await asyncio.wait_for(asked.wait(), 30)
    engine = gateway.runtime.ledger.engine
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE batch_rows SET worker = 'another', fence = fence + 1, lease_until_us = 9000000000000000")
    go.set()
    async with asyncio.timeout(30):
        while not (found := await gateway.all_rows()):
            await asyncio.sleep(0.02)
    assert [(each.status, each.billed) for each in found] == [("ok", "gateway")]
    batch = await gateway.sdk.batches.retrieve(batch.id)
    assert batch.request_counts is not None and batch.request_counts.completed == 0
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE batch_rows SET lease_until_us = 1")
    batch = await ended(gateway.sdk, batch)
    assert set(await lines(gateway.sdk, batch.output_file_id)) == {"a"} and len(one.journal) == 2
    charged = [each.cost_nusd for each in await gateway.all_rows() if each.billed == "team"]
    assert charged == [COST_NUSD] and batch.model_extra is not None and batch.model_extra["turnout"]["repeated_rows"] == 1
