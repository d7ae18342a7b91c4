"""Whoever the provider: a batch's life from rows to results, and the ways in which it goes wrong."""

import json

import pytest

from contract.errors import AttemptError, TargetCannot, UpstreamModelNotFound, UpstreamOverloaded, UpstreamRejected
from providers.batch.port import Job, JobRef, NotYetKnown, row_id
from tests.providers.batch.worlds import ROWS, World, call, question, text_of

HALF = ROWS // 2
LEFT_OUT = ("gemini", "bedrock")  # of whose files a row that did not run is no part


async def test_every_answer_comes_back_to_its_row_in_the_dialect_that_was_asked(world: World) -> None:
    job = await world.submitted()
    states = [job.state for job in await world.ended(job.ref)]
    assert states[-1] == "completed" and not job.ended
    results = await world.results(job.ref)
    assert {number: text_of(result) for number, result in results.items()} == {n: f"answer to question {n}" for n in range(ROWS)}
    assert list(results) != sorted(results), "the server gave them in order: it shows nothing"
    answer = results[3].answer
    assert answer is not None and answer.usage is not None
    assert (answer.usage.input_total, answer.usage.output_total, answer.usage.source) == (20, 5, "provider")
    assert answer.finish is not None and answer.finish.reason == "stop"
    assert json.loads(answer.body)["object"] == "chat.completion"


async def test_a_row_fails_alone_and_its_job_is_complete(world: World) -> None:
    world.server.fates = {row_id(3): "refused", row_id(4): "overloaded", row_id(5): "missing"}
    job = await world.submitted()
    last = (await world.ended(job.ref))[-1]
    assert last.state == "completed"
    if world.name not in ("together", "anthropic"):  # the first counts nothing, the second knows no row without an end
        assert (last.counts.succeeded, last.counts.errored) == (ROWS - 3, 2)
    results = await world.results(job.ref)
    assert set(range(ROWS)) - set(results) == {5}
    assert {number for number, result in results.items() if result.state != "succeeded"} == {3, 4}
    refused, overloaded = results[3].error, results[4].error
    assert isinstance(refused, UpstreamRejected) and refused.disposition == "final"
    assert isinstance(overloaded, UpstreamOverloaded)
    assert results[3].answer is None and "CANARY" not in refused.message + overloaded.message


async def test_a_job_that_expires_gives_what_it_has(world: World) -> None:
    world.server.ending, world.server.done = "expired", HALF
    job = await world.submitted()
    last = (await world.ended(job.ref))[-1]
    assert last.state == ("partial" if world.name == "bedrock" else "expired")
    results = await world.results(job.ref)
    assert {number for number, result in results.items() if result.state == "succeeded"} == set(range(HALF))
    rest = {result.state for number, result in results.items() if number >= HALF}
    assert rest == (set() if world.name in LEFT_OUT else {"expired"})


async def test_a_job_that_is_cancelled_gives_what_it_has_and_can_be_cancelled_again(world: World) -> None:
    world.server.done = HALF
    job = await world.submitted()
    assert (await world.client.cancel(job.ref)).state in ("cancelling", "cancelled")
    assert (await world.ended(job.ref))[-1].state == "cancelled"
    assert (await world.client.cancel(job.ref)).state == "cancelled"
    results = await world.results(job.ref)
    assert {number for number, result in results.items() if result.state == "succeeded"} == set(range(HALF))
    rest = {result.state for number, result in results.items() if number >= HALF}
    assert rest == (set() if world.name in LEFT_OUT else {"cancelled"})


async def test_what_has_ended_cannot_be_cancelled_and_stays(world: World) -> None:
    job = await world.submitted()
    await world.ended(job.ref)
    assert (await world.client.cancel(job.ref)).state == "completed"


async def test_a_job_that_failed_has_no_results(world: World) -> None:
    if world.name == "anthropic":
        pytest.skip("Anthropic's batches do not fail as a whole")
    world.server.ending = "failed"
    job = await world.submitted()
    assert (await world.ended(job.ref))[-1].state == "failed"
    assert await world.results(job.ref) == {}


async def test_polls_that_fail_are_made_again_no_sooner_than_asked(world: World) -> None:
    world.server.faults = [(503, {}), (500, {}), (429, {"retry_after": "900"}), (502, {})]
    job = await world.submitted()
    states = [job.state for job in await world.ended(job.ref)]
    assert states[-1] == "completed"
    assert max(world.slept) >= 900 and sum(pause >= 900 for pause in world.slept) == 1
    assert min(world.slept) >= 10


async def test_a_key_that_is_not_taken_is_not_tried_for_ever(world: World) -> None:
    job = await world.submitted()
    world.server.faults = [(401, {})]
    with pytest.raises(AttemptError) as told:
        await world.ended(job.ref)
    assert told.value.reason == "upstream_auth_failed"


async def test_a_job_that_is_gone_is_said_to_be(world: World) -> None:
    with pytest.raises(UpstreamModelNotFound):
        await world.ended(JobRef("batches/none" if world.name == "gemini" else "none", "batch-7-0", world.model))


async def test_a_submission_whose_reply_was_lost_is_found_again(world: World) -> None:
    part, submission = await world.part()
    assert await world.client.find(submission) is None
    other = await world.client.submit(*await world.part(key="another"))
    world.server.lost_replies = 1
    with pytest.raises(AttemptError):
        await world.client.submit(part, submission)
    if world.name == "anthropic":
        with pytest.raises(NotYetKnown):
            await world.client.find(submission)
        await world.ended(other.ref)
        for _ in range(2):
            await world.client.status(JobRef("msgbatch-0002", "?", "?"))
    found = await world.client.find(submission)
    assert found is not None and found.ref.id != other.ref.id and found.ref.key == submission.key
    await world.ended(found.ref)
    assert len(await world.results(found.ref)) == ROWS
    assert len(world.server.jobs) == 2


async def test_a_download_that_is_cut_goes_on_where_it_was(world: World) -> None:
    world.server.cuts = 2
    job = await world.submitted()
    await world.ended(job.ref)
    assert set(await world.results(job.ref)) == set(range(ROWS))
    assert world.server.cuts == 0


async def test_nothing_is_kept_of_a_job_that_is_forgotten(world: World) -> None:
    job = await world.submitted()
    await world.ended(job.ref)
    await world.client.forget(job.ref)
    assert world.server.files == {}


async def test_a_request_of_another_dialect_is_answered_in_it(world: World) -> None:
    body = {"model": "ours", "max_tokens": 50, "system": "Be brief.", "messages": [{"role": "user", "content": "Bonjour"}]}
    job = await world.submitted([call(body, "anthropic_messages")] + [question(number) for number in range(1, ROWS)])
    await world.ended(job.ref)
    answer = (await world.results(job.ref))[0].answer
    assert answer is not None
    message = json.loads(answer.body)
    assert message["type"] == "message" and message["content"] == [{"type": "text", "text": "answer to Bonjour"}]
    assert message["stop_reason"] == "end_turn" and message["usage"]["output_tokens"] == 5


async def test_a_streamed_request_is_not_streamed_in_a_batch(world: World) -> None:
    rows = [question(number, stream=True, stream_options={"include_usage": True}) for number in range(ROWS)]
    job = await world.submitted(rows)
    (sent,) = world.server.jobs.values()
    assert "stream" not in json.dumps(sent.rows)
    await world.ended(job.ref)
    assert len(await world.results(job.ref)) == ROWS


async def test_what_the_provider_cannot_be_asked_is_refused_by_row(world: World) -> None:
    pictures = call({"model": "ours", "input": ["a"]}, "openai_embeddings")
    parts = await world.parts([question(0), pictures, question(2)])
    takes = "/v1/embeddings" in world.client.limits.endpoints
    assert sum(part.rows for part in parts) == (3 if takes else 2)
    assert len(parts) == (2 if takes else 1), "a job has one endpoint"
    assert set(world.refused) == (set() if takes else {row_id(1)})
    assert all(isinstance(error, TargetCannot) for error in world.refused.values())


async def test_states_are_told_as_they_come_and_counts_only_when_known(world: World) -> None:
    job = await world.submitted()
    seen: list[Job] = await world.ended(job.ref)
    assert [job.ended for job in seen] == [False] * (len(seen) - 1) + [True]
    assert seen[-1].created_s is not None
    if world.name == "together":
        assert seen[-1].counts.total is None
    else:
        assert seen[-1].counts.total == ROWS
