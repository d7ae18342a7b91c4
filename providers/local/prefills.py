"""How much of batch work's prompts an engine reads at once: little, so that a live prompt that comes meanwhile is read within a step or two."""

import asyncio
from collections import deque

AT_ONCE = 2048  # tokens, about. An H100 reads so many of an 8B model in some 50 ms, and what decodes beside them waits for no longer


class Prefills:
    """For one event loop. First come, first served; a prompt that is larger than all goes alone."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self.reading = 0  # tokens, now
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def enter(self, tokens: int) -> int:
        """Waits until there is room; give what it returns to `leave`. Cancelling leaves nothing behind."""
        tokens = min(tokens, self._at_once)
        if not self._waiting and self.reading + tokens <= self._at_once:
            self.reading += tokens
            return tokens
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((tokens, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(tokens)
            raise
        return tokens

    def leave(self, tokens: int) -> None:
        """It is read: its first token came, or it ended without one."""
        self.reading -= tokens
        while self._waiting and (self._waiting[0][1].done() or self.reading + self._waiting[0][0] <= self._at_once):
            size, turn = self._waiting.popleft()
            if not turn.done():
                self.reading += size
                turn.set_result(None)
