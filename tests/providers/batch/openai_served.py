"""OpenAI's batch API on loopback, and Mistral's and Together's, which share its files.

Life cycles and shapes: https://developers.openai.com/api/docs/guides/batch, https://docs.mistral.ai/api/endpoint/batch,
https://docs.together.ai/docs/inference/batch/manage.
"""

import json
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from tests.gateway.upstream import Exchange
from tests.providers.batch.served import Route, ServedBatches, ServedJob, completion, form_parts, rfc3339

Line = dict[str, Any]


class ServedOpenAI(ServedBatches):
    """`base`: what `/files` and `/batches` stand below. `windows`: the completion windows that it takes."""

    PURPOSE: ClassVar[str] = "batch"
    WORDS: ClassVar[dict[str, str]] = {"running": "in_progress"}

    def __init__(self, base: str = "/v1", windows: tuple[str, ...] = ("24h",)) -> None:
        super().__init__()
        self.base = base
        self.windows = windows
        self.file_words: list[str] = []  # what the next answers about a file call its state, before it is processed

    def routes(self) -> list[Route]:
        return [*self.file_routes(), *self.job_routes()]

    def file_routes(self) -> list[Route]:
        files = f"{self.base}/files"
        return [
            ("POST", files, self.upload),
            ("GET", files, self.list_files),
            ("GET", f"{files}/*", self.get_file),
            ("GET", f"{files}/*/content", self.content),
            ("DELETE", f"{files}/*", self.delete_file),
        ]

    def job_routes(self) -> list[Route]:
        jobs = f"{self.base}/batches"
        return [
            ("POST", jobs, self.create),
            ("GET", jobs, self.list_jobs),
            ("GET", f"{jobs}/*", self.get),
            ("POST", f"{jobs}/*/cancel", self.cancel),
        ]

    def error(self, status: int) -> Line:
        return {"error": {"message": "CANARY-upstream-text", "type": "server_error", "param": None, "code": None}}

    async def upload(self, x: Exchange, _: str) -> None:
        parts = form_parts(x.seen.raw, x.seen.head["content-type"])
        if parts["purpose"][1].decode() != self.PURPOSE:
            await self.json(x, self.error(400), 400)
            return
        name = parts["file"][0]
        id_ = self.name("file")
        self.files[id_] = (name, parts["file"][1])
        await self.json(x, self.file(id_))

    def file(self, id_: str) -> Line:
        name, body = self.files[id_]
        return {
            "id": id_,
            "object": "file",
            "bytes": len(body),
            "created_at": 1,
            "filename": name,
            "purpose": self.PURPOSE,
            "status": self.file_words.pop(0) if self.file_words else "processed",
        }

    async def get_file(self, x: Exchange, id_: str) -> None:
        found = id_ in self.files
        await self.json(x, self.file(id_) if found else self.error(404), 200 if found else 404)

    async def list_files(self, x: Exchange, _: str) -> None:
        await self.json(x, {"object": "list", "data": [self.file(id_) for id_ in self.files], "has_more": False})

    async def content(self, x: Exchange, id_: str) -> None:
        if id_ not in self.files:
            await self.json(x, self.error(404), 404)
            return
        await self.download(x, [json.loads(line) for line in self.files[id_][1].splitlines()])

    async def delete_file(self, x: Exchange, id_: str) -> None:
        found = self.files.pop(id_, None)
        await self.json(x, {"id": id_, "object": "file", "deleted": True} if found else self.error(404), 200 if found else 404)

    async def create(self, x: Exchange, _: str) -> None:
        asked = x.seen.body
        if asked["input_file_id"] not in self.files or asked["completion_window"] not in self.windows:
            await self.json(x, self.error(400), 400)
            return
        rows = [json.loads(line) for line in self.files[asked["input_file_id"]][1].splitlines()]
        job = ServedJob(self.name("batch"), rows, asked)
        await self.created(x, job, self.shown(job))

    def invalid(self, job: ServedJob) -> bool:
        """What makes its validation fail: an id that stands twice, another endpoint, another model, no row at all."""
        ids = [row["custom_id"] for row in job.rows]
        same = all(row["method"] == "POST" and row["url"] == job.told["endpoint"] for row in job.rows)
        models = {row["body"]["model"] for row in job.rows}
        return not ids or len(set(ids)) < len(ids) or not same or len(models) > 1

    def advance(self, job: ServedJob) -> None:
        before = job.ending
        super().advance(job)
        if self.invalid(job):
            job.ending = "failed"
        if job.ending is not None and before is None and job.ending != "failed":
            self.write(job)

    def write(self, job: ServedJob) -> None:
        answered, failed = [], []
        for id_, row, fate in self.fated(job, "custom_id"):
            line: Line = {"id": self.name("batch_req"), "custom_id": id_, "response": None, "error": None}
            if fate == "ok":
                line["response"] = {"status_code": 200, "request_id": "req-1", "body": self.answer(job, row)}
                answered.append(line)
                continue
            if fate in ("expired", "cancelled"):
                line["error"] = {"code": f"batch_{fate}", "message": "This request was not executed before the end."}
            else:
                status = 400 if fate == "refused" else 503
                line["response"] = {"status_code": status, "request_id": "req-1", "body": self.error(status)}
            failed.append(line)
        for kind, lines in (("output", answered), ("error", failed)):
            if lines:
                id_ = self.name("file")
                self.files[id_] = (f"{kind}.jsonl", b"".join(json.dumps(line).encode() + b"\n" for line in lines))
                job.told[f"{kind}_file"] = id_
        job.told["counts"] = (len(answered), len(failed))

    def answer(self, job: ServedJob, row: Line) -> Line:
        if row["url"].endswith("/embeddings"):
            inputs = row["body"]["input"]
            data = [{"object": "embedding", "index": n, "embedding": [float(len(text)), 0.5]} for n, text in enumerate(inputs)]
            return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 4, "total_tokens": 4}}
        return completion(row["body"])

    def shown(self, job: ServedJob) -> Line:
        word = self.word(job)
        done, failed = job.told.get("counts", (0, 0))
        at = int(job.created)
        return {
            "id": job.id,
            "object": "batch",
            "endpoint": job.told["endpoint"],
            "completion_window": job.told["completion_window"],
            "input_file_id": job.told["input_file_id"],
            "output_file_id": job.told.get("output_file"),
            "error_file_id": job.told.get("error_file"),
            "status": self.WORDS.get(word, word),
            "errors": None,
            "created_at": at,
            "expires_at": at + 86400,
            f"{word}_at": at + 60,
            "metadata": job.told.get("metadata"),
            "request_counts": {"total": len(job.rows) if job.step else 0, "completed": done, "failed": failed},
        }

    async def list_jobs(self, x: Exchange, _: str) -> None:
        asked = parse_qs(urlsplit(x.seen.head[":path"]).query)
        size = int(asked.get("limit", ["20"])[0])
        jobs = sorted(self.jobs.values(), key=lambda job: (-job.created, job.id))
        ids = [job.id for job in jobs]
        begin = ids.index(asked["after"][0]) + 1 if "after" in asked else 0
        page = [self.shown(job) for job in jobs[begin : begin + size]]
        first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
        await self.json(x, {"object": "list", "data": page, "first_id": first, "last_id": last, "has_more": begin + size < len(jobs)})

    async def get(self, x: Exchange, id_: str) -> None:
        if (job := await self.polled(x, id_)) is not None:
            await self.json(x, self.shown(job))

    async def cancel(self, x: Exchange, id_: str) -> None:
        if (job := await self.cancelled(x, id_)) is not None:
            await self.json(x, self.shown(job))


class ServedMistral(ServedOpenAI):
    WORDS: ClassVar[dict[str, str]] = {
        "validating": "QUEUED",
        "running": "RUNNING",
        "finalizing": "RUNNING",
        "completed": "SUCCESS",
        "failed": "FAILED",
        "expired": "TIMEOUT_EXCEEDED",
        "cancelling": "CANCELLATION_REQUESTED",
        "cancelled": "CANCELLED",
    }

    def job_routes(self) -> list[Route]:
        jobs = f"{self.base}/batch/jobs"
        return [
            ("POST", jobs, self.create),
            ("GET", jobs, self.list_jobs),
            ("GET", f"{jobs}/*", self.get),
            ("POST", f"{jobs}/*/cancel", self.cancel),
        ]

    async def create(self, x: Exchange, _: str) -> None:
        asked = x.seen.body
        if not 1 <= asked["timeout_hours"] <= 168:
            await self.json(x, self.error(422), 422)
            return
        rows = [json.loads(line) for file in asked["input_files"] for line in self.files[file][1].splitlines()]
        job = ServedJob(self.name("job"), rows, asked)
        await self.created(x, job, self.shown(job))

    def invalid(self, job: ServedJob) -> bool:
        """The model is the job's, and stands in no row."""
        return any("model" in row["body"] or row.keys() != {"custom_id", "body"} for row in job.rows)

    def answer(self, job: ServedJob, row: Line) -> Line:
        return completion({**row["body"], "model": job.told["model"]})

    def shown(self, job: ServedJob) -> Line:
        done, failed = job.told.get("counts", (0, 0))
        return {
            "id": job.id,
            "object": "batch",
            "input_files": job.told["input_files"],
            "metadata": job.told.get("metadata"),
            "endpoint": job.told["endpoint"],
            "model": job.told["model"],
            "output_file": job.told.get("output_file"),
            "error_file": job.told.get("error_file"),
            "errors": [],
            "status": self.WORDS[self.word(job)],
            "created_at": int(job.created),
            "started_at": None,
            "completed_at": None,
            "total_requests": len(job.rows),
            "completed_requests": done + failed,
            "succeeded_requests": done,
            "failed_requests": failed,
        }

    async def list_jobs(self, x: Exchange, _: str) -> None:
        asked = parse_qs(urlsplit(x.seen.head[":path"]).query)
        size, number = int(asked["page_size"][0]), int(asked["page"][0])
        jobs = sorted(self.jobs.values(), key=lambda job: (-job.created, job.id))
        page = [self.shown(job) for job in jobs[number * size : (number + 1) * size]]
        await self.json(x, {"object": "list", "data": page, "total": len(jobs)})


class ServedTogether(ServedOpenAI):
    PURPOSE: ClassVar[str] = "batch-api"
    WAY: ClassVar[tuple[str, ...]] = ("validating", "running")
    WORDS: ClassVar[dict[str, str]] = {"running": "IN_PROGRESS"}

    def file_routes(self) -> list[Route]:
        return [("POST", f"{self.base}/files/upload", self.upload), *super().file_routes()[1:]]

    async def upload(self, x: Exchange, _: str) -> None:
        if "file_name" not in form_parts(x.seen.raw, x.seen.head["content-type"]):
            await self.json(x, self.error(400), 400)
            return
        await super().upload(x, _)

    async def create(self, x: Exchange, _: str) -> None:
        rows = [json.loads(line) for line in self.files[x.seen.body["input_file_id"]][1].splitlines()]
        job = ServedJob(self.name("batch"), rows, x.seen.body)
        await self.created(x, job, {"job": self.shown(job)}, 201)

    async def cancel(self, x: Exchange, id_: str) -> None:
        """It is cancelled at once."""
        if (job := await self.cancelled(x, id_)) is not None:
            self.advance(job)
            await self.json(x, self.shown(job))

    def shown(self, job: ServedJob) -> Line:
        word = self.word(job)
        return {
            "id": job.id,
            "user_id": "user-1",
            "input_file_id": job.told["input_file_id"],
            "output_file_id": job.told.get("output_file"),
            "error_file_id": job.told.get("error_file"),
            "file_size_bytes": 1,
            "status": self.WORDS.get(word, word.upper()),
            "job_deadline": rfc3339(job.created + 86400),
            "created_at": rfc3339(job.created),
            "endpoint": job.told["endpoint"],
            "progress": 75.0,
        }

    async def list_jobs(self, x: Exchange, _: str) -> None:
        await self.json(x, [self.shown(job) for job in self.jobs.values()])
