"""Anthropic's message batches on loopback (https://platform.claude.com/docs/en/build-with-claude/batch-processing)."""

from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from tests.gateway.upstream import Exchange
from tests.providers.batch.served import Fate, Route, ServedBatches, ServedJob, rfc3339, text_of

Line = dict[str, Any]


class ServedAnthropic(ServedBatches):
    """Counts stay in `processing` until a batch has ended."""

    WAY: ClassVar[tuple[str, ...]] = ("running", "running")
    PATH = "/v1/messages/batches"

    def routes(self) -> list[Route]:
        return [
            ("POST", self.PATH, self.create),
            ("GET", self.PATH, self.list_jobs),
            ("GET", f"{self.PATH}/*", self.get),
            ("DELETE", f"{self.PATH}/*", self.delete),
            ("POST", f"{self.PATH}/*/cancel", self.cancel),
            ("GET", f"{self.PATH}/*/results", self.results),
        ]

    def error(self, status: int) -> Line:
        types = {400: "invalid_request_error", 404: "not_found_error", 409: "conflict_error", 429: "rate_limit_error", 529: "overloaded_error"}
        return {"type": "error", "error": {"type": types.get(status, "api_error"), "message": "CANARY-upstream-text"}, "request_id": "req-1"}

    async def create(self, x: Exchange, _: str) -> None:
        rows = x.seen.body["requests"]
        ids = [row["custom_id"] for row in rows]
        if len(set(ids)) < len(ids) or any(not 1 <= len(id_) <= 64 for id_ in ids) or "anthropic-version" not in x.seen.head:
            await self.json(x, self.error(400), 400)
            return
        job = ServedJob(self.name("msgbatch"), rows, {})
        await self.created(x, job, self.shown(job))

    def fate(self, job: ServedJob, number: int, id_: str) -> Fate:
        return super().fate(job, number, id_.rpartition("_")[2])

    def shown(self, job: ServedJob) -> Line:
        counts = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        if job.ending is None:
            counts["processing"] = len(job.rows)
        else:
            names = {
                "ok": "succeeded",
                "refused": "errored",
                "overloaded": "errored",
                "cancelled": "canceled",
                "expired": "expired",
                "missing": "errored",
            }
            for number, row in enumerate(job.rows):
                counts[names.get(self.fate(job, number, row["custom_id"]), "errored")] += 1
        return {
            "id": job.id,
            "type": "message_batch",
            "processing_status": "ended" if job.ending else "canceling" if job.cancelling else "in_progress",
            "request_counts": counts,
            "created_at": rfc3339(job.created),
            "expires_at": rfc3339(job.created + 86400),
            "ended_at": rfc3339(job.created + 60) if job.ending else None,
            "cancel_initiated_at": rfc3339(job.created + 30) if job.cancelling else None,
            "archived_at": None,
            "results_url": f"{self.root}{self.PATH}/{job.id}/results" if job.ending else None,
        }

    async def list_jobs(self, x: Exchange, _: str) -> None:
        asked = parse_qs(urlsplit(x.seen.head[":path"]).query)
        jobs = sorted(self.jobs.values(), key=lambda job: (-job.created, job.id))
        size = int(asked.get("limit", ["20"])[0])
        ids = [job.id for job in jobs]
        begin = ids.index(asked["after_id"][0]) + 1 if "after_id" in asked else 0
        page = [self.shown(job) for job in jobs[begin : begin + size]]
        first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
        await self.json(x, {"data": page, "first_id": first, "last_id": last, "has_more": begin + size < len(jobs)})

    async def get(self, x: Exchange, id_: str) -> None:
        if (job := await self.polled(x, id_)) is not None:
            await self.json(x, self.shown(job))

    async def cancel(self, x: Exchange, id_: str) -> None:
        if (job := await self.cancelled(x, id_)) is not None:
            await self.json(x, self.shown(job))

    async def delete(self, x: Exchange, id_: str) -> None:
        job = self.jobs.pop(id_, None)
        await self.json(x, {"id": id_, "type": "message_batch_deleted"} if job else self.error(404), 200 if job else 404)

    async def results(self, x: Exchange, id_: str) -> None:
        job = self.jobs.get(id_)
        if job is None or job.ending is None:
            await self.json(x, self.error(404), 404)
            return
        await self.download(x, [{"custom_id": id_, "result": self.result(row, fate)} for id_, row, fate in self.fated(job, "custom_id")])

    def result(self, row: Line, fate: Fate) -> Line:
        if fate == "ok":
            return {"type": "succeeded", "message": message(row["params"])}
        if fate in ("refused", "overloaded"):
            return {"type": "errored", "error": self.error(400 if fate == "refused" else 529)}
        return {"type": "canceled" if fate == "cancelled" else "expired"}


def message(params: Line) -> Line:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": params["model"],
        "content": [{"type": "text", "text": f"answer to {text_of(params['messages'][-1]['content'])}"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 20, "output_tokens": 5},
    }
