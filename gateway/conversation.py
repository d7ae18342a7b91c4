"""A conversation with an engine of our own, without a gateway: what `turnout chat` talks through."""

from collections.abc import AsyncIterator
from time import monotonic
from types import TracebackType
from typing import Any

import msgspec

from contract.errors import AttemptError, ContextLengthExceeded
from contract.events import TextDelta
from gateway.identity import new_request_id
from gateway.peek import read_chat_call
from providers.http.client import PooledClient
from providers.local.backend import EngineBackend
from providers.local.spec import EngineSpec
from providers.local.supervisor import EngineSupervisor
from providers.local.weights import resolve_model
from providers.port import Exchange, Marks
from providers.wires.openai_chat import OPENAI_CHAT

NAME = "chat"
CONTEXT = 4096


class Conversation:
    """Starts an engine for itself, remembers what was said, forgets the oldest when it grows too long. Raises WeightsNotFound."""

    def __init__(self, model: str, max_tokens: int) -> None:
        spec = EngineSpec(name=NAME, model_path=str(resolve_model(model)), slots=1, ctx_per_slot=CONTEXT, max_prompt_tokens=CONTEXT * 3 // 4)
        self._client = PooledClient()
        self._engine = EngineSupervisor(spec, self._client)
        self._backend = EngineBackend(self._engine, self._client)
        self._max_tokens = max_tokens
        self._messages: list[dict[str, str]] = []

    async def __aenter__(self) -> "Conversation":
        await self._engine.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._backend.aclose()
        await self._engine.stop()
        await self._client.aclose()

    async def ask(self, question: str) -> AsyncIterator[str]:
        """The answer, piece by piece. Raises AttemptError."""
        self._messages.append({"role": "user", "content": question})
        exchange = await self._open()
        decoder = OPENAI_CHAT.stream_decoder(1)
        answer: list[str] = []
        try:
            while piece := await exchange.next():
                for event in decoder.feed(piece):
                    if isinstance(event, TextDelta):
                        answer.append(event.text)
                        yield event.text
        finally:
            exchange.abort()
        self._messages.append({"role": "assistant", "content": "".join(answer)})

    async def _open(self) -> Exchange:
        while True:
            body: dict[str, Any] = {"model": NAME, "messages": self._messages, "stream": True, "max_tokens": self._max_tokens}
            call = read_chat_call(new_request_id(), msgspec.json.encode(body), [])
            try:
                return await self._backend.open(call, NAME, Marks(monotonic()), "nothing")
            except ContextLengthExceeded:
                if len(self._messages) == 1:
                    self._messages.clear()
                    raise
                del self._messages[:2]
            except AttemptError:
                self._messages.pop()
                raise
