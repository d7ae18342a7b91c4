"""What is one provider's own: marks, windows, addresses, minimums, files that lie elsewhere."""

import json
from pathlib import Path
from time import time

import msgspec
import pytest

from contract.errors import AttemptError, MalformedResponse, TargetCannot, UpstreamRejected
from providers.batch.port import HOUR_S, JobRef, NotYetKnown, Submission, row_id
from providers.batch.table import limits_of
from providers.registry import PROVIDER_KINDS
from tests.gateway.upstream import Exchange
from tests.providers.batch.amazon_served import ServedAmazon
from tests.providers.batch.gemini_served import ServedGemini
from tests.providers.batch.openai_served import ServedOpenAI
from tests.providers.batch.worlds import call, question, world_of


@pytest.mark.parametrize(("hours", "window"), [(1, "24h"), (24, "24h"), (30, "24h"), (48, "2d"), (1000, "7d")])
async def test_groq_is_given_as_many_days_as_there_are(tmp_path: Path, hours: int, window: str) -> None:
    async with world_of("groq", tmp_path) as world:
        (part,) = await world.parts([question(0)])
        await world.client.submit(part, part.submission(time(), hours * HOUR_S))
        (job,) = world.server.jobs.values()
        assert job.told["completion_window"] == window


@pytest.mark.parametrize(("name", "field", "hours"), [("mistral", "timeout_hours", 168), ("bedrock", "timeoutDurationInHours", 168)])
async def test_a_timeout_in_hours_is_kept_within_what_is_taken(tmp_path: Path, name: str, field: str, hours: int) -> None:
    async with world_of(name, tmp_path) as world:
        part, _ = await world.part()
        await world.client.submit(part, part.submission(time(), 1000 * HOUR_S))
        (job,) = world.server.jobs.values()
        assert job.told[field] == hours


@pytest.mark.parametrize("name", ["groq", "together", "mistral"])
async def test_what_is_no_batch_of_the_provider_s_goes_as_what_is(tmp_path: Path, name: str) -> None:
    """Groq speaks Responses and Together legacy completions, but only live."""
    asked = [
        call({"model": "ours", "input": "Bonjour"}, "openai_responses"),
        call({"model": "ours", "prompt": "Il était"}, "openai_completions"),
    ]
    async with world_of(name, tmp_path) as world:
        job = await world.submitted(asked)
        (served,) = world.server.jobs.values()
        assert served.told["endpoint"] == "/v1/chat/completions"
        await world.ended(job.ref)
        results = await world.results(job.ref)
        first, second = (json.loads(results[n].answer.body) for n in range(2) if results[n].answer)
        assert first["object"] == "response" and first["output"][0]["content"][0]["text"] == "answer to Bonjour"
        assert second["object"] == "text_completion" and "answer to" in second["choices"][0]["text"]


async def test_embeddings_come_back_with_their_usage(tmp_path: Path) -> None:
    async with world_of("openai", tmp_path) as world:
        job = await world.submitted([call({"model": "ours", "input": ["one", "three"]}, "openai_embeddings")])
        await world.ended(job.ref)
        answer = (await world.results(job.ref))[0].answer
        assert answer is not None and answer.usage is not None and answer.usage.input_total == 4
        assert [each["embedding"][0] for each in json.loads(answer.body)["data"]] == [3.0, 5.0]


async def test_openai_s_own_endpoints_are_asked_in_its_own_words(tmp_path: Path) -> None:
    asked = [
        call({"model": "ours", "input": "a", "store": False}, "openai_responses"),
        call({"model": "ours", "prompt": "b"}, "openai_completions"),
        question(2),
    ]
    for name in ("openai", "azure"):
        async with world_of(name, tmp_path) as world:
            parts = await world.parts(asked)
            assert [part.endpoint for part in parts] == ["/v1/responses", "/v1/completions", "/v1/chat/completions"]
            assert json.loads(parts[0].file.read_bytes())["body"] == {"model": "their-model", "input": "a", "store": False}


async def test_openai_knows_no_window_but_a_day(tmp_path: Path) -> None:
    async with world_of("openai", tmp_path) as world:
        (part,) = await world.parts([question(0)])
        await world.client.submit(part, part.submission(time(), 96 * HOUR_S))
        (job,) = world.server.jobs.values()
        assert job.told["completion_window"] == "24h"


async def test_bedrock_is_not_asked_for_fewer_rows_than_it_takes(tmp_path: Path) -> None:
    async with world_of("bedrock", tmp_path) as world:
        with pytest.raises(TargetCannot, match="fewer than 100"):
            await world.submitted([question(0)])
        assert world.server.files == {} and world.server.upstream.journal == []


async def test_bedrock_sends_converse_requests_under_the_model_s_own_name(tmp_path: Path) -> None:
    async with world_of("bedrock", tmp_path) as world:
        assert isinstance(world.server, ServedAmazon)
        await world.submitted()
        (job,) = world.server.jobs.values()
        assert job.told["modelId"] == world.model
        assert job.rows[1]["modelInput"]["messages"] == [{"role": "user", "content": [{"text": "question 1"}]}]
        assert job.rows[1]["modelInput"]["inferenceConfig"] == {"maxTokens": 50}
        again = await world.submitted()
        assert len(world.server.jobs) == 1 and again.ref.id.endswith("000000000000"), "one token, one job"


async def test_a_bucket_that_is_not_listed_as_s3_lists_one_is_no_empty_bucket(tmp_path: Path) -> None:
    async with world_of("bedrock", tmp_path) as world:
        job = await world.submitted()
        await world.ended(job.ref)

        async def nonsense(x: Exchange) -> None:
            await x.respond(200, b"<html>", "text/html")

        world.server.upstream.default = nonsense
        with pytest.raises(MalformedResponse):
            await world.results(job.ref)


async def test_gemini_s_file_goes_nowhere_but_to_gemini(tmp_path: Path) -> None:
    async with world_of("gemini", tmp_path) as world, world_of("gemini", tmp_path) as other:
        assert isinstance(world.server, ServedGemini)
        world.server.upload_host = other.server.root
        with pytest.raises(MalformedResponse):
            await world.submitted()
        assert other.server.upstream.journal == []


async def test_anthropic_s_rows_carry_the_mark_of_their_submission(tmp_path: Path) -> None:
    async with world_of("anthropic", tmp_path) as world:
        job = await world.submitted([question(0)])
        (served,) = world.server.jobs.values()
        mark, _, id_ = served.rows[0]["custom_id"].partition("_")
        assert (len(mark), id_) == (16, row_id(0))
        await world.ended(job.ref)
        assert await world.results(JobRef(job.ref.id, "other-0", job.ref.model)) == {}, "results of another submission are not ours"


async def test_a_beta_that_rows_want_goes_with_their_job_alone(tmp_path: Path) -> None:
    async with world_of("anthropic", tmp_path) as world:
        beta = ((b"anthropic-beta", b"context-1m-2025-08-07"),)
        wanting = msgspec.structs.replace(question(1), headers=(*beta, (b"anthropic-version", b"2026-10-21")))
        parts = await world.parts([question(0), wanting, question(2)])
        assert [(part.rows, part.headers) for part in parts] == [(2, ()), (1, beta)]
        for part in parts:
            await world.client.submit(part, part.submission(time()))
        heads = [seen.head for seen in world.server.upstream.journal]
        assert [head.get("anthropic-beta") for head in heads] == [None, "context-1m-2025-08-07"]
        assert {head["anthropic-version"] for head in heads} == {"2023-06-01"}


async def test_a_file_is_waited_for_until_it_may_be_used(tmp_path: Path) -> None:
    async with world_of("azure", tmp_path) as world:
        assert isinstance(world.server, ServedOpenAI)
        world.server.file_words = ["pending", "running"]
        job = await world.submitted([question(0)])
        assert job.state == "validating"
        world.server.file_words = ["pending", "error"]
        with pytest.raises(UpstreamRejected):
            await world.submitted([question(0)])
        assert len(world.server.jobs) == 1


async def test_anthropic_s_batches_are_told_apart_when_they_end(tmp_path: Path) -> None:
    async with world_of("anthropic", tmp_path) as world:
        part, submission = await world.part()
        stranger = await world.client.submit(*await world.part(key="stranger"))
        with pytest.raises(NotYetKnown):
            await world.client.find(submission)
        known = part.submission(submission.since_s, known=frozenset({stranger.ref.id}))
        assert await world.client.find(known) is None
        await world.ended(stranger.ref)
        assert await world.client.find(submission) is None, "it has ended, and its results are another's"
        old = Submission(key=part.key, model=part.model, rows=part.rows, since_s=time() + 3600)
        assert await world.client.find(old) is None


async def test_a_job_far_down_the_list_is_found(tmp_path: Path) -> None:
    async with world_of("openai", tmp_path) as world:
        wanted = await world.submitted([question(0)])
        for number in range(120):
            await world.client.submit(*await world.part([question(0)], key=f"other-{number}"))
        submission = Submission(key="batch-7-0", model=world.model, rows=1, since_s=time() - 60)
        found = await world.client.find(submission)
        assert found is not None and found.ref == wanted.ref


async def test_a_file_that_lies_elsewhere_is_fetched_without_the_key(tmp_path: Path) -> None:
    async with world_of("together", tmp_path) as world, world_of("together", tmp_path) as store:
        job = await world.submitted([question(0)])
        await world.ended(job.ref)
        store.server.files.update(world.server.files)
        plain = world.server.upstream.default

        async def elsewhere(x: Exchange) -> None:
            if x.seen.head[":path"].endswith("/content"):
                await x.respond(302, b"", location=store.server.root + x.seen.head[":path"])
            else:
                await plain(x)

        world.server.upstream.default = elsewhere
        assert set(await world.results(job.ref)) == {0}
        (seen,) = store.server.upstream.journal
        assert "authorization" not in seen.head


async def test_lines_that_cannot_be_read_leave_the_others(tmp_path: Path) -> None:
    async with world_of("openai", tmp_path) as world:
        job = await world.submitted()
        await world.ended(job.ref)
        (served,) = world.server.jobs.values()
        id_ = served.told["output_file"]
        name, body = world.server.files[id_]
        lines = body.splitlines()
        mended = [b'{"custom_id": "unknown", "response": {"status_code": 200, "body": {}}}', b'{"response": null}', b"[]", *lines[1:]]
        world.server.files[id_] = (name, b"\n".join(mended))
        lost = json.loads(lines[0])["custom_id"]
        assert {row_id(number) for number in await world.results(job.ref)} == set(world.calls) - {lost}


async def test_an_answer_that_is_none_is_an_error_of_its_row(tmp_path: Path) -> None:
    async with world_of("openai", tmp_path) as world:
        job = await world.submitted()
        await world.ended(job.ref)
        (served,) = world.server.jobs.values()
        line = {"custom_id": row_id(0), "response": {"status_code": 200, "body": {"error": {"message": "x", "code": "server_overloaded"}}}}
        world.server.files[served.told["output_file"]] = ("o", json.dumps(line).encode())
        (result,) = (await world.results(job.ref)).values()
        assert result.state == "errored" and isinstance(result.error, AttemptError)


def test_every_provider_whose_batches_we_speak_tells_its_limits() -> None:
    known = {name: limits_of(kind) for name, kind in PROVIDER_KINDS.items()}
    spoken = {"openai", "azure", "anthropic", "gemini", "mistral", "bedrock", "groq", "together"}
    assert {name for name, limits in known.items() if limits is not None} == spoken


@pytest.mark.parametrize("name", ["openai", "anthropic"])
async def test_a_list_without_an_end_is_no_proof_that_there_is_no_job(tmp_path: Path, name: str) -> None:
    async with world_of(name, tmp_path) as world:
        _, submission = await world.part()
        job = {"id": "x", "status": "completed", "created_at": 4e9} if name == "openai" else {"id": "x", "processing_status": "ended"}

        async def endless(x: Exchange) -> None:
            await x.respond(200, json.dumps({"data": [job], "has_more": True, "last_id": "x"}).encode())

        world.server.upstream.default = endless
        with pytest.raises(NotYetKnown, match="batch-7-0"):
            await world.client.find(submission)


async def test_a_list_that_begins_with_the_oldest_is_read_to_its_end(tmp_path: Path) -> None:
    async with world_of("groq", tmp_path) as world:
        old = [{"id": f"old{n}", "status": "completed", "created_at": n} for n in range(2)]
        ours = {"id": "ours", "status": "in_progress", "created_at": time(), "metadata": {"turnout_key": "batch-7-0"}}

        async def oldest_first(x: Exchange) -> None:
            page = {"data": [ours], "has_more": False} if "after=old1" in x.seen.head[":path"] else {"data": old, "has_more": True}
            await x.respond(200, json.dumps(page).encode())

        _, submission = await world.part()
        world.server.upstream.default = oldest_first
        found = await world.client.find(submission)
        assert found is not None and found.ref.id == "ours"
