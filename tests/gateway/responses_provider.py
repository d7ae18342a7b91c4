"""A provider that speaks OpenAI's Responses and keeps what it said, as a play for `tests.gateway.upstream`."""

import json
from typing import Any

from tests.gateway.upstream import Exchange

USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 25,
}


def missing(kind: str) -> bytes:
    return json.dumps({"error": {"message": "CANARY", "type": "invalid_request_error", "code": kind, "param": None}}).encode()


class Provider:
    """Answers with a thought and its own name. Each answer's encrypted thought is another in the last event, as OpenAI's is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kept: dict[str, dict[str, Any]] = {}
        self.made = 0

    async def __call__(self, x: Exchange) -> None:
        path, _, _ = x.seen.head[":path"].partition("?")
        if not path.endswith("/responses"):
            await self._manage(x, path.partition("/responses/")[2])
            return
        previous = x.seen.body.get("previous_response_id")
        if previous is not None and previous not in self.kept:
            await x.respond(400, missing("previous_response_not_found"))
            return
        answer = self._answer(x.seen.body)
        if x.seen.body.get("stream"):
            await self._stream(x, answer)
        else:
            await x.respond(200, json.dumps(answer).encode())

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        self.made += 1
        number = f"{self.name}_{self.made}"
        thought = {"id": f"rs_{number}", "type": "reasoning", "summary": [], "encrypted_content": f"enc_{number}_last"}
        text = {"type": "output_text", "text": f"I am {self.name}", "annotations": [], "logprobs": []}
        message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
        head = {"id": f"resp_{number}", "object": "response", "created_at": 1, "model": body["model"], "status": "completed", "error": None}
        store = body.get("store") is not False
        rest = {"incomplete_details": None, "parallel_tool_calls": True, "tool_choice": "auto", "tools": body.get("tools") or [], "store": store}
        answer = {**head, **rest, "output": [thought, message], "usage": USAGE}
        if store:
            self.kept[answer["id"]] = answer
        return answer

    async def _stream(self, x: Exchange, answer: dict[str, Any]) -> None:
        thought, message = answer["output"]
        begun = {**answer, "status": "in_progress", "output": [], "usage": None}
        first = {**thought, "encrypted_content": thought["encrypted_content"].replace("_last", "_first")}
        part = message["content"][0]
        at = {"item_id": message["id"], "output_index": 1, "content_index": 0}
        told: list[tuple[str, dict[str, Any]]] = [
            ("created", {"response": begun}),
            ("in_progress", {"response": begun}),
            ("output_item.added", {"output_index": 0, "item": {**thought, "encrypted_content": ""}}),
            ("output_item.done", {"output_index": 0, "item": first}),
            ("output_item.added", {"output_index": 1, "item": {**message, "status": "in_progress", "content": []}}),
            ("content_part.added", {**at, "part": {**part, "text": ""}}),
            ("output_text.delta", {**at, "delta": part["text"], "logprobs": []}),
            ("output_text.done", {**at, "text": part["text"], "logprobs": []}),
            ("content_part.done", {**at, "part": part}),
            ("output_item.done", {"output_index": 1, "item": message}),
            ("completed", {"response": answer}),
        ]
        await x.start_stream()
        for number, (kind, event) in enumerate(told):
            data = json.dumps({"type": f"response.{kind}", "sequence_number": number, **event})
            await x.raw_chunk(f"event: response.{kind}\ndata: {data}\n\n".encode())
        await x.end_stream()

    async def _manage(self, x: Exchange, rest: str) -> None:
        name, _, verb = rest.partition("/")
        answer = self.kept.get(name)
        if answer is None:
            await x.respond(404, missing("response_not_found"))
        elif x.seen.head[":method"] == "DELETE":
            del self.kept[name]
            await x.respond(200, json.dumps({"id": name, "object": "response", "deleted": True}).encode())
        elif verb == "input_items":
            item = {"id": "msg_in", "type": "message", "role": "user", "status": "completed", "content": [{"type": "input_text", "text": "Hi"}]}
            page = {"object": "list", "data": [item], "first_id": "msg_in", "last_id": "msg_in", "has_more": False}
            await x.respond(200, json.dumps(page).encode())
        else:
            await x.respond(200, json.dumps({**answer, **({"status": "cancelled"} if verb == "cancel" else {})}).encode())
