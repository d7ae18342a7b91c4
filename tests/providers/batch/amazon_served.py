"""Bedrock's batch inference and the S3 under it, on loopback. Every signature is checked against Amazon's own signer.

https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference.html; buckets by path.
"""

import json
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.gateway.upstream import Exchange
from tests.providers.batch.served import Fate, Route, ServedBatches, ServedJob, rfc3339
from tests.providers.sigv4_oracle import authorization

Line = dict[str, Any]
KEY = ("AKIDEXAMPLE", "secretEXAMPLE", None)
REGION = "us-east-1"
BUCKET = "rows"
ROLE = "arn:aws:iam::123456789012:role/batch"
JOBS = "/model-invocation-job"
ARN = f"arn:aws:bedrock:{REGION}:123456789012:model-invocation-job/"
OWN = ("host", "x-amz-date")  # headers that the signer adds itself


class ServedAmazon(ServedBatches):
    """Minimum of records as Amazon's default. A record that was not processed in time is in no file."""

    WAY: ClassVar[tuple[str, ...]] = ("submitted", "validating", "scheduled", "running")
    WORDS: ClassVar[dict[str, str]] = {"running": "InProgress", "cancelling": "Stopping", "cancelled": "Stopped"}
    MIN_RECORDS = 100

    def routes(self) -> list[Route]:
        return [
            ("POST", JOBS, self.create),
            ("GET", f"{JOBS}s", self.list_jobs),
            ("GET", f"{JOBS}/*", self.get),
            ("POST", f"{JOBS}/*/stop", self.stop),
        ]

    def error(self, status: int) -> Line:
        return {"message": "CANARY-upstream-text"}

    async def _handle(self, x: Exchange) -> None:
        head = x.seen.head
        in_s3 = head[":path"].startswith(f"/{BUCKET}")
        if not self.signed(x, "s3" if in_s3 else "bedrock"):
            await self.json(x, self.error(403), 403)
        elif in_s3:
            await self.s3(x, unquote(urlsplit(head[":path"]).path.removeprefix(f"/{BUCKET}").removeprefix("/")))
        else:
            await super()._handle(x)

    def signed(self, x: Exchange, service: str) -> bool:
        head = x.seen.head
        names = head["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
        headers = {name: head[name] for name in names if name not in OWN}
        url = f"http://{head['host']}{head[':path']}"
        wanted = authorization(head[":method"], url, headers, x.seen.raw, key=KEY, region=REGION, stamp=head["x-amz-date"], service=service)
        return head["authorization"] == wanted

    async def s3(self, x: Exchange, key: str) -> None:
        method = x.seen.head[":method"]
        if method == "PUT":
            self.files[key] = (key, x.seen.raw)
            await x.respond(200, b"")
        elif method == "DELETE":
            self.files.pop(key, None)
            await x.respond(204, b"")
        elif key in self.files:
            await self.download(x, [json.loads(line) for line in self.files[key][1].splitlines()])
        elif not key:
            prefix = parse_qs(urlsplit(x.seen.head[":path"]).query)["prefix"][0]
            keys = "".join(f"<Contents><Key>{escape(name)}</Key></Contents>" for name in self.files if name.startswith(prefix))
            body = f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated>{keys}</ListBucketResult>'
            await x.respond(200, body.encode(), "application/xml")
        else:
            await x.respond(404, b"<Error><Code>NoSuchKey</Code></Error>", "application/xml")

    async def create(self, x: Exchange, _: str) -> None:
        asked = x.seen.body
        known = next((job for job in self.jobs.values() if job.told["clientRequestToken"] == asked["clientRequestToken"]), None)
        if known is not None:
            await self.json(x, {"jobArn": ARN + known.id})
            return
        key = asked["inputDataConfig"]["s3InputDataConfig"]["s3Uri"].removeprefix(f"s3://{BUCKET}/")
        if key not in self.files or asked["roleArn"] != ROLE or asked["modelInvocationType"] != "Converse":
            await self.json(x, self.error(400), 400)
            return
        rows = [json.loads(line) for line in self.files[key][1].splitlines()]
        job = ServedJob(f"{len(self.jobs):012d}", rows, asked)
        await self.created(x, job, {"jobArn": ARN + job.id})

    def advance(self, job: ServedJob) -> None:
        before = job.ending
        super().advance(job)
        if len(job.rows) < self.MIN_RECORDS:
            job.ending = "failed"
        if job.ending is not None and before is None and job.ending != "failed":
            self.write(job)

    def write(self, job: ServedJob) -> None:
        lines = [
            {"recordId": id_, "modelInput": row["modelInput"], **self.result(row, fate)}
            for id_, row, fate in self.fated(job, "recordId")
            if fate not in ("expired", "cancelled")
        ]
        folder = job.told["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"].removeprefix(f"s3://{BUCKET}/") + job.id
        self.files[f"{folder}/input.jsonl.out"] = ("out", b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        self.files[f"{folder}/manifest.json.out"] = ("manifest", json.dumps({"totalRecordCount": len(job.rows)}).encode())
        job.told["counts"] = (sum("modelOutput" in line for line in lines), sum("error" in line for line in lines))

    def result(self, row: Line, fate: Fate) -> Line:
        if fate in ("refused", "overloaded"):
            return {"error": {"errorCode": 400 if fate == "refused" else 503, "errorMessage": "CANARY-upstream-text"}}
        text = "".join(part["text"] for part in row["modelInput"]["messages"][-1]["content"])
        message = {"role": "assistant", "content": [{"text": f"answer to {text}"}]}
        usage = {"inputTokens": 20, "outputTokens": 5, "totalTokens": 25}
        return {"modelOutput": {"output": {"message": message}, "stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 1}}}

    def shown(self, job: ServedJob) -> Line:
        word = self.word(job)
        done, failed = job.told.get("counts", (0, 0))
        if job.ending == "expired" and self.done:
            word = "PartiallyCompleted"
        return {
            "jobArn": ARN + job.id,
            "jobName": job.told["jobName"],
            "clientRequestToken": job.told["clientRequestToken"],
            "modelId": job.told["modelId"],
            "roleArn": job.told["roleArn"],
            "status": self.WORDS.get(word) or word[0].upper() + word[1:],
            "submitTime": rfc3339(job.created),
            "jobExpirationTime": rfc3339(job.created + 86400),
            "inputDataConfig": job.told["inputDataConfig"],
            "outputDataConfig": job.told["outputDataConfig"],
            "totalRecordCount": len(job.rows),
            "successRecordCount": done,
            "errorRecordCount": failed,
        }

    def id_of(self, identifier: str) -> str:
        return unquote(identifier).removeprefix(ARN)

    async def list_jobs(self, x: Exchange, _: str) -> None:
        part = parse_qs(urlsplit(x.seen.head[":path"]).query).get("nameContains", [""])[0]
        await self.json(x, {"invocationJobSummaries": [self.shown(job) for job in self.jobs.values() if part in job.told["jobName"]]})

    async def get(self, x: Exchange, identifier: str) -> None:
        if (job := await self.polled(x, self.id_of(identifier))) is not None:
            await self.json(x, self.shown(job))

    async def stop(self, x: Exchange, identifier: str) -> None:
        if await self.cancelled(x, self.id_of(identifier)) is not None:
            await self.json(x, {})
