"""The loopback servers are right as far as the providers' own SDKs can tell: each SDK leads a batch from its file to its results."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import botocore.session
import openai
import pytest
from botocore.config import Config

from tests.providers.batch import amazon_served as amazon
from tests.providers.batch.anthropic_served import ServedAnthropic
from tests.providers.batch.openai_served import ServedOpenAI

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture
async def openai_like(request: pytest.FixtureRequest) -> AsyncIterator[ServedOpenAI]:
    server = ServedOpenAI(request.param)
    await server.upstream.start()
    yield server
    await server.upstream.stop()


def rows(count: int) -> bytes:
    body = {"model": "m", "messages": MESSAGES}
    lines = [{"custom_id": f"c{n}", "method": "POST", "url": "/v1/chat/completions", "body": body} for n in range(count)]
    return b"\n".join(json.dumps(line).encode() for line in lines)


@pytest.mark.parametrize("openai_like", ["/v1", "/openai/v1"], ids=["openai", "azure and groq"], indirect=True)
async def test_openais_sdk_leads_a_batch_to_its_end(openai_like: ServedOpenAI) -> None:
    openai_like.fates = {"c2": "refused"}
    async with openai.AsyncOpenAI(base_url=openai_like.root + openai_like.base, api_key="k", max_retries=0) as client:
        file = await client.files.create(file=("rows.jsonl", rows(4)), purpose="batch")
        made = await client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"turnout_key": "k1"}
        )
        assert made.status == "validating" and made.metadata == {"turnout_key": "k1"}
        seen = []
        while (batch := await client.batches.retrieve(made.id)).status not in ("completed", "failed"):
            seen.append(batch.status)
        assert seen == ["in_progress", "finalizing"] and batch.status == "completed"
        assert batch.request_counts is not None and (batch.request_counts.completed, batch.request_counts.failed) == (3, 1)
        assert batch.output_file_id is not None and batch.error_file_id is not None
        lines = (await client.files.content(batch.output_file_id)).text.splitlines()
        assert {json.loads(line)["custom_id"] for line in lines} == {"c0", "c1", "c3"}
        (failed,) = (await client.files.content(batch.error_file_id)).text.splitlines()
        assert json.loads(failed)["response"]["status_code"] == 400
        assert [each.id async for each in client.batches.list(limit=1)] == [made.id]
        with pytest.raises(openai.ConflictError):
            await client.batches.cancel(made.id)
        assert (await client.files.delete(batch.output_file_id)).deleted


@pytest.mark.parametrize("openai_like", ["/v1"], indirect=True)
async def test_openais_sdk_sees_a_batch_cancelled_and_a_bad_file_fail(openai_like: ServedOpenAI) -> None:
    openai_like.done = 1
    async with openai.AsyncOpenAI(base_url=openai_like.root + "/v1", api_key="k", max_retries=0) as client:
        file = await client.files.create(file=("rows.jsonl", rows(3)), purpose="batch")
        made = await client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        assert (await client.batches.cancel(made.id)).status == "cancelling"
        batch = await client.batches.retrieve(made.id)
        assert batch.status == "cancelled" and batch.output_file_id is not None and batch.error_file_id is not None
        twice = await client.files.create(file=("rows.jsonl", rows(1) + b"\n" + rows(1)), purpose="batch")
        bad = await client.batches.create(input_file_id=twice.id, endpoint="/v1/chat/completions", completion_window="24h")
        assert (await client.batches.retrieve(bad.id)).status == "failed"


async def test_anthropics_sdk_leads_a_batch_to_its_end() -> None:
    server = ServedAnthropic()
    await server.upstream.start()
    server.fates = {"b": "overloaded", "c": "expired"}
    asked: list[Any] = [{"custom_id": f"mark_{id_}", "params": {"model": "m", "max_tokens": 5, "messages": MESSAGES}} for id_ in "abc"]
    async with anthropic.AsyncAnthropic(base_url=server.root, api_key="k", max_retries=0) as client:
        made = await client.messages.batches.create(requests=asked)
        assert made.processing_status == "in_progress" and made.request_counts.processing == 3
        while (batch := await client.messages.batches.retrieve(made.id)).processing_status != "ended":
            assert batch.request_counts.processing == 3
        assert (batch.request_counts.succeeded, batch.request_counts.errored, batch.request_counts.expired) == (1, 1, 1)
        results = {each.custom_id: each.result async for each in await client.messages.batches.results(made.id)}
        assert {id_: result.type for id_, result in results.items()} == {"mark_a": "succeeded", "mark_b": "errored", "mark_c": "expired"}
        whole = results["mark_a"]
        assert whole.type == "succeeded" and whole.message.content[0].type == "text"
        assert [each.id async for each in client.messages.batches.list(limit=1)] == [made.id]
        await client.messages.batches.delete(made.id)
        other = await client.messages.batches.create(requests=asked)
        assert (await client.messages.batches.cancel(other.id)).processing_status == "canceling"
        assert (await client.messages.batches.retrieve(other.id)).processing_status == "ended"
    await server.upstream.stop()


async def test_amazons_sdk_leads_a_batch_to_its_end() -> None:
    server = amazon.ServedAmazon()
    await server.upstream.start()
    server.fates = {"r7": "refused"}
    await asyncio.to_thread(lead_amazon, server)
    await server.upstream.stop()


def lead_amazon(server: amazon.ServedAmazon) -> None:
    session = botocore.session.get_session()
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, request_checksum_calculation="when_required")

    def client(service: str) -> Any:
        return session.create_client(
            service,
            region_name=amazon.REGION,
            endpoint_url=server.root,
            aws_access_key_id=amazon.KEY[0],
            aws_secret_access_key=amazon.KEY[1],
            config=config,
        )

    s3, bedrock = client("s3"), client("bedrock")
    asked = {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}
    lines = b"\n".join(json.dumps({"recordId": f"r{n}", "modelInput": asked}).encode() for n in range(100))
    s3.put_object(Bucket=amazon.BUCKET, Key="in/input.jsonl", Body=lines, ContentType="application/jsonl")
    job = {
        "jobName": "job-1",
        "clientRequestToken": "job-1",
        "roleArn": amazon.ROLE,
        "modelId": "anthropic.claude-sonnet-4-5-20250929-v1:0",
        "modelInvocationType": "Converse",
        "inputDataConfig": {"s3InputDataConfig": {"s3InputFormat": "JSONL", "s3Uri": f"s3://{amazon.BUCKET}/in/input.jsonl"}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"s3://{amazon.BUCKET}/out/"}},
        "timeoutDurationInHours": 24,
    }
    arn = bedrock.create_model_invocation_job(**job)["jobArn"]
    assert bedrock.create_model_invocation_job(**job)["jobArn"] == arn, "the token makes one job of two requests"
    seen = [bedrock.get_model_invocation_job(jobIdentifier=arn)["status"] for _ in range(4)]
    assert seen == ["Validating", "Scheduled", "InProgress", "Completed"]
    listed = bedrock.list_model_invocation_jobs(nameContains="job-1")["invocationJobSummaries"]
    assert [(each["jobName"], each["successRecordCount"], each["errorRecordCount"]) for each in listed] == [("job-1", 99, 1)]
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=amazon.BUCKET, Prefix="out/")["Contents"]]
    (result,) = [key for key in keys if key.endswith(".jsonl.out")]
    body = s3.get_object(Bucket=amazon.BUCKET, Key=result)["Body"].read()
    told = {json.loads(line)["recordId"]: json.loads(line) for line in body.splitlines()}
    assert len(told) == 100 and told["r7"]["error"]["errorCode"] == 400 and "modelOutput" in told["r8"]
    other = bedrock.create_model_invocation_job(**{**job, "clientRequestToken": "job-2", "jobName": "job-2"})["jobArn"]
    bedrock.stop_model_invocation_job(jobIdentifier=other)
    assert bedrock.get_model_invocation_job(jobIdentifier=other)["status"] == "Stopped"
    for client_ in (s3, bedrock):
        client_.close()
