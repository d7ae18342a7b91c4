"""Whole answers, and upstreams that give a part of one: what tests of answers that were cut share."""

import asyncio
import json
from typing import Any

from tests.gateway.conftest import Gateway
from tests.gateway.upstream import Exchange, Play, Upstream

WORDS = "several words here " * 60  # 1140 characters
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": WORDS}],
    "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 40, "output_tokens": 240},
}  # fmt: skip
RESPONSE = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "m",
    "output": [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": WORDS, "annotations": []}]}],
    "usage": {"input_tokens": 40, "output_tokens": 240, "total_tokens": 280},
}  # fmt: skip
COMPLETION = {
    "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [{"index": 0, "text": WORDS, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 40, "completion_tokens": 240, "total_tokens": 280},
}  # fmt: skip
CANDIDATE = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": WORDS}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 40, "candidatesTokenCount": 240, "totalTokenCount": 280},
}  # fmt: skip
VECTORS = {
    "object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.25] * 400}], "model": "m",
    "usage": {"prompt_tokens": 40, "total_tokens": 40},
}  # fmt: skip


def head(framing: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{framing}\r\n".encode()


def cut(answer: Any, how: str, share: float = 0.6) -> Play:
    """Half an answer, and then: a body that is shorter than was said, no last chunk, a reset, a close that was to tell its end, silence."""

    async def play(x: Exchange) -> None:
        whole = json.dumps(answer).encode()
        part = whole[: int(len(whole) * share)]
        if how == "chunked":
            await x.send(head("transfer-encoding: chunked\r\n"))
            await x.raw_chunk(part)
        elif how == "closed":
            await x.send(head("connection: close\r\n") + part)
        else:
            await x.send(head(f"content-length: {len(whole)}\r\n") + part)
        if how == "silent":
            await x.wait_until_gone()
        elif how == "reset":
            await asyncio.sleep(0.05)  # or the kernel takes back what was not read yet
            x.reset()
        else:
            x.writer.close()

    return play


async def left_in_the_middle(gateway: Gateway, one: Upstream, path: str, body: dict[str, Any]) -> Any:
    """The row of a request whose client leaves once a part of its answer has come."""
    asking = asyncio.create_task(gateway.post(body, path=path))
    while not one.journal or not one.journal[0].sent:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    asking.cancel()
    while not (rows := await gateway.all_rows()):
        await asyncio.sleep(0.01)
    return rows[0]
