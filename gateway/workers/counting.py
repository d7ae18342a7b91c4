"""What all workers counted, together: whichever is asked for metrics asks the parent, and that one all of them.

What a worker counted stays counted when it is gone: it tells its parent every PUSH_S, and at its end.
"""

import asyncio
from collections.abc import Callable, Mapping
from itertools import count

import msgspec
import structlog

from gateway.metrics.snapshot import Snapshot, decoded, encoded, together
from gateway.workers.messages import AllCounted, AskCounts, Channel, Counted, TellCounts, Up

PUSH_S = 2.0  # so much of its counts a worker that is killed takes with it at most
ROUND_S = 1.0  # how long the workers are waited for; who hangs is told of as it was heard last
ANSWER_S = 3.0

log = structlog.get_logger("turnout.workers")


class _Member:
    def __init__(self) -> None:
        self.last = Snapshot()
        self.round = 0


class Sums:
    """The parent's side. `pages`: the engines' own metrics just now."""

    def __init__(self, pages: Callable[[], Mapping[str, str]]) -> None:
        self._pages = pages
        self._members: dict[Channel[Up], _Member] = {}
        self._gone = Snapshot()
        self._rounds = count(1)
        self._heard = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, channel: Channel[Up]) -> None:
        self._members[channel] = _Member()

    def close(self, channel: Channel[Up]) -> None:
        """The worker is gone."""
        member = self._members.pop(channel, None)
        if member is not None:
            self._gone = together([self._gone, member.last.kept()])
            self._wake()

    def take(self, channel: Channel[Up], message: Counted | AskCounts) -> None:
        if isinstance(message, AskCounts):
            task = asyncio.create_task(self._answer(channel, message.id), name="metrics of all workers")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        member = self._members[channel]
        try:
            member.last = decoded(message.snapshot)
        except msgspec.MsgspecError as error:
            log.error("what a worker counted cannot be read", error=str(error))
        member.round = max(member.round, message.round)
        self._wake()

    async def _answer(self, channel: Channel[Up], id: int) -> None:
        number = next(self._rounds)
        for member in self._members:
            member.send(TellCounts(number))
        try:
            async with asyncio.timeout(ROUND_S):
                while any(member.round < number for member in self._members.values()):
                    await self._heard.wait()
        except TimeoutError:
            log.warning("a worker did not tell its metrics in time")
        counted = together([self._gone, *(member.last for member in self._members.values())])
        channel.send(AllCounted(id, encoded(counted), dict(self._pages())))

    def _wake(self) -> None:
        self._heard.set()
        self._heard = asyncio.Event()


class Telling:
    """A worker's side. Implements `gateway.metrics.gathering.Others`."""

    def __init__(self, say: Callable[[Counted | AskCounts], None]) -> None:
        self.own: Callable[[], Snapshot] = Snapshot
        self.changes: Callable[[], int] = int
        self._say = say
        self._ids = count(1)
        self._asked: dict[int, asyncio.Future[AllCounted]] = {}

    async def all(self) -> tuple[Snapshot, Mapping[str, str]]:
        """Of all; of this worker alone where the parent does not answer."""
        id = next(self._ids)
        answer = self._asked[id] = asyncio.get_running_loop().create_future()
        self._say(AskCounts(id))
        try:
            async with asyncio.timeout(ANSWER_S):
                told = await answer
        except TimeoutError:
            log.warning("the parent did not tell the others' metrics in time")
            return self.own(), {}
        finally:
            del self._asked[id]
        return decoded(told.snapshot), told.pages

    def take(self, message: TellCounts | AllCounted) -> None:
        if isinstance(message, TellCounts):
            self.tell(message.round)
        elif (asked := self._asked.get(message.id)) is not None and not asked.done():
            asked.set_result(message)

    def tell(self, number: int = 0) -> None:
        self._say(Counted(number, encoded(self.own())))

    async def push(self) -> None:
        """Until it is cancelled."""
        told = 0
        while True:
            await asyncio.sleep(PUSH_S)
            if (now := self.changes()) != told:
                told = now
                self.tell()
