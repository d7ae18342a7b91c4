"""The four dialects of the fault table, from both ends: what an upstream says in them, and what a caller is told.

Every answer is 60 tokens of its owner's own: ` a0é`, ` a1é` … of target a, ` b0é` … of target b (a vector of 60 numbers for embeddings),
so that a text says whose it is, how much of it is there, and whether anything is missing or mixed.
"""

import json
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

Json = dict[str, Any]
TOKENS = 60
PROMPT_TOKENS = 20
CANARY = "CANARY-upstream-text"  # nothing that an upstream wrote about its failure may reach a caller
ASK = [{"role": "user", "content": "Hi"}]
BEGUN = [*ASK, {"role": "assistant", "content": "Well, "}]


def token(owner: str, index: int) -> str:
    return f" {owner}{index}é"


def text(owner: str, count: int = TOKENS) -> str:
    return "".join(token(owner, index) for index in range(count))


@dataclass(frozen=True)
class Said:
    """An answer as its caller has it. `told`: `a:60` is the whole of a's text, `a:40` its beginning. `whole`: it ended as a whole one does."""

    told: str
    whole: bool
    finish: str | None = None
    code: str | None = None


def told(given: str) -> str:
    """`a:40` for the first 40 tokens of a's answer; the text itself when it is nobody's."""
    for owner in ("a", "b", "c"):
        count = given.count(f" {owner}")
        if count and given == text(owner, count):
            return f"{owner}:{count}"
    return repr(given) if given else ""


@dataclass(frozen=True)
class Problem:
    """What an upstream refuses or fails with, in every dialect's words. `type_`: Anthropic's; `code`: OpenAI's.

    `words`: Anthropic's, where it has no code for what it says.
    """

    status: int
    type_: str
    code: str | None = None
    detail: str | None = None  # Anthropic's `error.details.error_code`
    words: str = ""

    def openai(self) -> Json:
        return {"error": {"message": CANARY, "type": self.type_, "code": self.code, "param": None}}

    def anthropic(self) -> Json:
        details = {} if self.detail is None else {"details": {"error_code": self.detail}}
        message = f"{self.words} {CANARY}".lstrip()
        return {"type": "error", "error": {"type": self.type_, "message": message, **details}, "request_id": "req_up"}


class Speech(Protocol):
    """One dialect. The events of a stream: `head`, one `piece` a token, `tail`, `last`; each bytes with its blank line."""

    NAME: str
    path: str
    kind: str  # of a provider that speaks it natively
    streams: bool
    headers: ClassVar[dict[str, str]]
    filtered: str  # how its own answer says that a filter ended it

    def ask(self, model: str, stream: bool, begun: bool = False) -> Json: ...
    def asks_prefill(self, body: Json) -> bool:
        """Whether an upstream that was sent this body is asked to go on from an answer that has begun."""

    def head(self, usage: Json | None) -> list[bytes]: ...
    def piece(self, owner: str, index: int) -> bytes: ...
    def empty(self) -> bytes:
        """A delta with nothing in it."""

    def tail(self, owner: str, finish: str | None, usage: Json | None) -> list[bytes]:
        """What follows the last token, the terminal event excluded. `finish` None: the ordinary end."""

    def last(self, owner: str, finish: str | None, usage: Json | None) -> list[bytes]: ...
    def broken(self) -> bytes:
        """An event whose JSON is cut."""

    def unary(self, owner: str, finish: str | None, usage: Json | None) -> bytes: ...
    def error(self, problem: Problem) -> bytes: ...
    def error_event(self, problem: Problem) -> bytes: ...
    def usage(self, into: int, out: int) -> Json: ...
    def read(self, body: Json) -> Said:
        """A unary answer, or an error."""

    def read_stream(self, events: list[tuple[str, str]]) -> Said: ...


def event(data: Json, name: str | None = None) -> bytes:
    line = f"event: {name}\n" if name else ""
    return f"{line}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


class Chat:
    NAME = "chat"
    path = "/v1/chat/completions"
    kind = "openai-compatible"
    streams = True
    headers: ClassVar[dict[str, str]] = {}
    filtered = "content_filter"

    def ask(self, model: str, stream: bool, begun: bool = False) -> Json:
        return {"model": model, "messages": BEGUN if begun else ASK, "stream": stream}

    def asks_prefill(self, body: Json) -> bool:
        return bool(body["messages"][-1]["role"] == "assistant")

    def _chunk(self, delta: Json, finish: str | None = None, **extra: Any) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        return event({"id": "up", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": choices, **extra})

    def head(self, usage: Json | None) -> list[bytes]:
        return [self._chunk({"role": "assistant", "content": ""})]

    def piece(self, owner: str, index: int) -> bytes:
        return self._chunk({"content": token(owner, index)})

    def empty(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def tail(self, owner: str, finish: str | None, usage: Json | None) -> list[bytes]:
        told_usage = [] if usage is None else [event({"id": "up", "object": "chat.completion.chunk", "choices": [], "usage": usage})]
        return [self._chunk({}, finish or "stop"), *told_usage]

    def last(self, owner: str, finish: str | None, usage: Json | None) -> list[bytes]:
        return [b"data: [DONE]\n\n"]

    def broken(self) -> bytes:
        return b'data: {"choices":[{"index":0,"delta":{"con\n\n'

    def unary(self, owner: str, finish: str | None, usage: Json | None) -> bytes:
        choice = {"index": 0, "message": {"role": "assistant", "content": text(owner)}, "finish_reason": finish or "stop"}
        return json.dumps({"id": "up", "object": "chat.completion", "created": 1, "model": "up", "choices": [choice], "usage": usage}).encode()

    def error(self, problem: Problem) -> bytes:
        return json.dumps(problem.openai()).encode()

    def error_event(self, problem: Problem) -> bytes:
        return event(problem.openai())

    def usage(self, into: int, out: int) -> Json:
        return {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out}

    def read(self, body: Json) -> Said:
        if "error" in body:
            return Said("", False, code=body["error"]["code"])
        (choice,) = body["choices"]
        return Said(told(choice["message"]["content"]), True, choice["finish_reason"])

    def read_stream(self, events: list[tuple[str, str]]) -> Said:
        chunks = [json.loads(data) for _, data in events if data != "[DONE]"]
        errors = [chunk["error"]["code"] for chunk in chunks if "error" in chunk]
        choices = [choice for chunk in chunks for choice in chunk.get("choices", [])]
        finishes = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
        given = "".join(choice["delta"].get("content") or "" for choice in choices)
        ended = bool(events) and events[-1][1] == "[DONE]" and bool(finishes)
        return Said(told(given), ended, next(iter(finishes), None), next(iter(errors), None))


class Messages:
    NAME = "messages"
    path = "/v1/messages"
    kind = "anthropic"
    streams = True
    headers: ClassVar[dict[str, str]] = {"anthropic-version": "2023-06-01"}
    filtered = "refusal"

    def ask(self, model: str, stream: bool, begun: bool = False) -> Json:
        return {"model": model, "max_tokens": 100, "messages": BEGUN if begun else ASK, "stream": stream}

    asks_prefill = Chat.asks_prefill

    def _event(self, kind: str, **data: Any) -> bytes:
        return event({"type": kind, **data}, kind)

    def _message(self, content: list[Json], stop: str | None, usage: Json | None) -> Json:
        body = {"id": "up", "type": "message", "role": "assistant", "model": "up", "content": content, "stop_reason": stop, "stop_sequence": None}
        return body if usage is None else {**body, "usage": usage}

    def head(self, usage: Json | None) -> list[bytes]:
        start = self._message([], None, None if usage is None else {**usage, "output_tokens": 1})
        block = {"type": "text", "text": ""}
        return [self._event("message_start", message=start), self._event("content_block_start", index=0, content_block=block), self._event("ping")]

    def piece(self, owner: str, index: int) -> bytes:
        return self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": token(owner, index)})

    def empty(self) -> bytes:
        return self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": ""})

    def tail(self, owner: str, finish: str | None, usage: Json | None) -> list[bytes]:
        delta = {"stop_reason": finish or "end_turn", "stop_sequence": None}
        told_usage = {} if usage is None else {"usage": usage}
        return [self._event("content_block_stop", index=0), self._event("message_delta", delta=delta, **told_usage)]

    def last(self, owner: str, finish: str | None, usage: Json | None) -> list[bytes]:
        return [self._event("message_stop")]

    def broken(self) -> bytes:
        return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"ty\n\n'

    def unary(self, owner: str, finish: str | None, usage: Json | None) -> bytes:
        return json.dumps(self._message([{"type": "text", "text": text(owner)}], finish or "end_turn", usage)).encode()

    def error(self, problem: Problem) -> bytes:
        return json.dumps(problem.anthropic()).encode()

    def error_event(self, problem: Problem) -> bytes:
        return event(problem.anthropic(), "error")

    def usage(self, into: int, out: int) -> Json:
        return {"input_tokens": into, "output_tokens": out}

    def read(self, body: Json) -> Said:
        if body["type"] == "error":
            return Said("", False, code=body["error"]["code"])
        return Said(told("".join(block["text"] for block in body["content"])), True, body["stop_reason"])

    def read_stream(self, events: list[tuple[str, str]]) -> Said:
        found = [json.loads(data) for _, data in events]
        given = "".join(each["delta"]["text"] for each in found if each["type"] == "content_block_delta")
        finish = next((each["delta"]["stop_reason"] for each in found if each["type"] == "message_delta"), None)
        code = next((each["error"]["code"] for each in found if each["type"] == "error"), None)
        return Said(told(given), bool(found) and found[-1]["type"] == "message_stop" and finish is not None, finish, code)


class Responses:
    NAME = "responses"
    path = "/v1/responses"
    kind = "openai"
    streams = True
    headers: ClassVar[dict[str, str]] = {}
    filtered = "content_filter"

    def ask(self, model: str, stream: bool, begun: bool = False) -> Json:
        return {"model": model, "input": BEGUN if begun else ASK, "stream": stream, "store": False}

    def asks_prefill(self, body: Json) -> bool:
        return bool(body["input"][-1]["role"] == "assistant")

    def _event(self, kind: str, **data: Any) -> bytes:
        return event({"type": f"response.{kind}", **data}, f"response.{kind}")

    def _response(self, status: str, output: list[Json], finish: str | None = None, usage: Json | None = None, error: Json | None = None) -> Json:
        details = {"reason": finish} if finish else None
        head = {"id": "up", "object": "response", "created_at": 1, "model": "up", "status": status, "error": error, "incomplete_details": details}
        rest = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "store": False}
        return {**head, **rest, "output": output, "usage": usage}

    def _message(self, given: str, status: str) -> Json:
        content = [{"type": "output_text", "text": given, "annotations": [], "logprobs": []}] if given else []
        return {"id": "msg_up", "type": "message", "role": "assistant", "status": status, "content": content}

    def head(self, usage: Json | None) -> list[bytes]:
        begun = self._response("in_progress", [])
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        return [
            self._event("created", response=begun),
            self._event("output_item.added", output_index=0, item=self._message("", "in_progress")),
            self._event("content_part.added", item_id="msg_up", output_index=0, content_index=0, part=part),
        ]

    def piece(self, owner: str, index: int) -> bytes:
        return self._event("output_text.delta", item_id="msg_up", output_index=0, content_index=0, delta=token(owner, index), logprobs=[])

    def empty(self) -> bytes:
        return self._event("output_text.delta", item_id="msg_up", output_index=0, content_index=0, delta="", logprobs=[])

    def tail(self, owner: str, finish: str | None, usage: Json | None) -> list[bytes]:
        return [self._event("output_item.done", output_index=0, item=self._message(text(owner), "completed"))]

    def last(self, owner: str, finish: str | None, usage: Json | None) -> list[bytes]:
        status = "incomplete" if finish else "completed"
        return [self._event(status, response=self._response(status, [self._message(text(owner), status)], finish, usage))]

    def broken(self) -> bytes:
        return b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","del\n\n'

    def unary(self, owner: str, finish: str | None, usage: Json | None) -> bytes:
        status = "incomplete" if finish else "completed"
        return json.dumps(self._response(status, [self._message(text(owner), status)], finish, usage)).encode()

    def error(self, problem: Problem) -> bytes:
        return json.dumps(problem.openai()).encode()

    def error_event(self, problem: Problem) -> bytes:
        failed = self._response("failed", [], error={"code": problem.code or "server_error", "message": CANARY})
        return self._event("failed", response=failed)

    def usage(self, into: int, out: int) -> Json:
        return {"input_tokens": into, "output_tokens": out, "total_tokens": into + out}

    def _read(self, response: Json) -> Said:
        given = "".join(part["text"] for item in response["output"] for part in item["content"])
        finish = (response["incomplete_details"] or {}).get("reason") or response["status"]
        return Said(told(given), response["status"] in ("completed", "incomplete"), finish)

    def read(self, body: Json) -> Said:
        if body.get("object") != "response":
            return Said("", False, code=body["error"]["code"])
        return self._read(body)

    def read_stream(self, events: list[tuple[str, str]]) -> Said:
        found = [json.loads(data) for _, data in events]
        given = "".join(each["delta"] for each in found if each["type"] == "response.output_text.delta")
        last = found[-1] if found else {"type": ""}
        if last["type"] == "response.failed":
            return Said(told(given), False, code=last["response"]["error"]["code"])
        whole = last["type"] in ("response.completed", "response.incomplete")
        return Said(told(given), whole, self._read(last["response"]).finish if whole else None)


class Embeddings:
    """Never streamed: what belongs to a stream stays empty."""

    NAME = "embeddings"
    path = "/v1/embeddings"
    kind = "openai-compatible"
    streams = False
    headers: ClassVar[dict[str, str]] = {}
    filtered = ""

    def ask(self, model: str, stream: bool, begun: bool = False) -> Json:
        return {"model": model, "input": "Hi", "encoding_format": "float"}

    def asks_prefill(self, body: Json) -> bool:
        return False

    def _nothing(self, *_: Any) -> list[bytes]:
        return []

    head = tail = last = _nothing

    def piece(self, owner: str, index: int) -> bytes:
        return b""

    def empty(self) -> bytes:
        return b""

    def broken(self) -> bytes:
        return b""

    def unary(self, owner: str, finish: str | None, usage: Json | None) -> bytes:
        vector = [index + ord(owner) / 1000 for index in range(TOKENS)]
        data = [{"object": "embedding", "index": 0, "embedding": vector}]
        return json.dumps({"object": "list", "data": data, "model": "up", "usage": usage}).encode()

    def error(self, problem: Problem) -> bytes:
        return json.dumps(problem.openai()).encode()

    def error_event(self, problem: Problem) -> bytes:
        return b""

    def usage(self, into: int, out: int) -> Json:
        return {"prompt_tokens": into, "total_tokens": into}

    def read(self, body: Json) -> Said:
        if "error" in body:
            return Said("", False, code=body["error"]["code"])
        (only,) = body["data"]
        owner = chr(round(only["embedding"][0] * 1000))
        whole = only["embedding"] == [index + ord(owner) / 1000 for index in range(TOKENS)]
        return Said(f"{owner}:{TOKENS}" if whole else str(only), True)

    def read_stream(self, events: list[tuple[str, str]]) -> Said:
        raise AssertionError("embeddings are not streamed")


CHAT, MESSAGES, RESPONSES, EMBEDDINGS = Chat(), Messages(), Responses(), Embeddings()
DIALECTS: list[Speech] = [CHAT, MESSAGES, RESPONSES, EMBEDDINGS]  # type: ignore[list-item]
