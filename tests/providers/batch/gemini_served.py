"""Gemini's batches on loopback: resumable uploads, operations, counts that are strings (https://ai.google.dev/gemini-api/docs/batch-api)."""

import json
from typing import Any, ClassVar

from tests.gateway.upstream import Exchange
from tests.providers.batch.served import Fate, Route, ServedBatches, ServedJob, rfc3339

Line = dict[str, Any]
BASE = "/v1beta"


class ServedGemini(ServedBatches):
    """A cancel is at once the end."""

    WAY: ClassVar[tuple[str, ...]] = ("validating", "running")
    WORDS: ClassVar[dict[str, str]] = {"validating": "PENDING", "completed": "SUCCEEDED"}

    def __init__(self) -> None:
        super().__init__()
        self.announced: dict[str, int] = {}
        self.upload_host: str | None = None  # somebody else's, in the address that is given for a file

    def routes(self) -> list[Route]:
        return [
            ("POST", f"/upload{BASE}/files", self.upload),
            ("POST", f"{BASE}/models/*:batchGenerateContent", self.create),
            ("GET", f"{BASE}/batches", self.list_jobs),
            ("GET", f"{BASE}/batches/*", self.get),
            ("POST", f"{BASE}/batches/*:cancel", self.cancel),
            ("DELETE", f"{BASE}/batches/*", self.delete_job),
            ("DELETE", f"{BASE}/files/*", self.delete_file),
            ("GET", f"/download{BASE}/files/*:download", self.content),
        ]

    def error(self, status: int) -> Line:
        words = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
        return {"error": {"code": status, "message": "CANARY-upstream-text", "status": words.get(status, "INTERNAL")}}

    async def upload(self, x: Exchange, _: str) -> None:
        head = x.seen.head
        if head["x-goog-upload-command"] == "start":
            id_ = self.name("file")
            self.announced[id_] = int(head["x-goog-upload-header-content-length"])
            url = f"{self.upload_host or self.root}/upload{BASE}/files?upload_id={id_}"
            await x.respond(200, b"{}", **{"x-goog-upload-url": url})
            return
        id_ = head[":path"].partition("upload_id=")[2]
        if head["x-goog-upload-command"] != "upload, finalize" or self.announced.get(id_) != len(x.seen.raw):
            await self.json(x, self.error(400), 400)
            return
        self.files[id_] = ("input.jsonl", x.seen.raw)
        await self.json(x, {"file": {"name": f"files/{id_}", "mimeType": "application/jsonl", "sizeBytes": str(len(x.seen.raw))}})

    async def create(self, x: Exchange, model: str) -> None:
        asked = x.seen.body["batch"]
        file = asked["inputConfig"]["fileName"].removeprefix("files/")
        rows = [json.loads(line) for line in self.files[file][1].splitlines()]
        job = ServedJob(self.name("b"), rows, {**asked, "model": model})
        await self.created(x, job, self.shown(job))

    def advance(self, job: ServedJob) -> None:
        before = job.ending
        super().advance(job)
        if job.ending is not None and before is None and job.ending != "failed":
            lines = [{"key": id_, **self.result(row, fate)} for id_, row, fate in self.fated(job, "key") if fate not in ("expired", "cancelled")]
            id_ = self.name("batch-out")
            self.files[id_] = ("out.jsonl", b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            job.told["responses"] = f"files/{id_}"
            job.told["counts"] = (sum("response" in line for line in lines), sum("error" in line for line in lines))

    def result(self, row: Line, fate: Fate) -> Line:
        if fate in ("refused", "overloaded"):
            return {"error": {"code": 3 if fate == "refused" else 14, "message": "CANARY-upstream-text"}}
        text = "".join(part["text"] for part in row["request"]["contents"][-1]["parts"])
        candidate = {"content": {"role": "model", "parts": [{"text": f"answer to {text}"}]}, "finishReason": "STOP", "index": 0}
        usage = {"promptTokenCount": 20, "candidatesTokenCount": 5, "totalTokenCount": 25}
        return {"response": {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "g", "responseId": "r1"}}

    def shown(self, job: ServedJob) -> Line:
        word = self.word(job)
        done, failed = job.told.get("counts", (0, 0))
        metadata = {
            "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
            "model": f"models/{job.told['model']}",
            "displayName": job.told["displayName"],
            "inputConfig": job.told["inputConfig"],
            "createTime": rfc3339(job.created),
            "batchStats": {"requestCount": str(len(job.rows)), "successfulRequestCount": str(done), "failedRequestCount": str(failed)},
            "state": f"BATCH_STATE_{self.WORDS.get(word, word.upper())}",
            "name": f"batches/{job.id}",
        }
        shown: Line = {"name": f"batches/{job.id}", "metadata": metadata, "done": job.ending is not None}
        if "responses" in job.told:
            shown["response"] = {"@type": "…GenerateContentBatchOutput", "responsesFile": job.told["responses"]}
        return shown

    async def list_jobs(self, x: Exchange, _: str) -> None:
        await self.json(x, {"operations": [self.shown(job) for job in self.jobs.values()]})

    async def get(self, x: Exchange, id_: str) -> None:
        if (job := await self.polled(x, id_)) is not None:
            await self.json(x, self.shown(job))

    async def cancel(self, x: Exchange, id_: str) -> None:
        if (job := await self.cancelled(x, id_)) is not None:
            self.advance(job)
            await self.json(x, {})

    async def content(self, x: Exchange, id_: str) -> None:
        await self.download(x, [json.loads(line) for line in self.files[id_][1].splitlines()])

    async def delete_job(self, x: Exchange, id_: str) -> None:
        job = self.jobs.pop(id_, None)
        if job is not None and "responses" in job.told:
            self.files.pop(job.told["responses"].removeprefix("files/"), None)
        await self.json(x, {} if job else self.error(404), 200 if job else 404)

    async def delete_file(self, x: Exchange, id_: str) -> None:
        found = self.files.pop(id_, None)
        await self.json(x, {} if found else self.error(403), 200 if found else 403)
