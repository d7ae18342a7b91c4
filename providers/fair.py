"""Whose turn it is among those that wait: start-time fair queueing (Goyal, Vin and Cheng, 1996) over flows, interactive ones before batch."""

from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar

from contract.flow import Flow

Who = TypeVar("Who", bound=Hashable)
_Key = tuple[int, float, int]  # priority, virtual start, order of arrival: the smaller, the sooner


class Turns(Generic[Who]):
    """Each flow has turns in proportion to its weight while it has somebody waiting; within a flow who came first goes first.

    Batch has a turn only where nobody interactive waits. A flow that was away gets no turns for the time that it did not need them.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[_Key, Who]] = []
        self._keys: dict[Who, _Key] = {}
        self._flows: dict[Who, tuple[int, str]] = {}
        self._virtual = [0.0, 0.0]  # of each priority: the start of the turn given last
        self._next: dict[tuple[int, str], float] = {}  # of each flow: when its next turn would start
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, who: Who) -> bool:
        return who in self._keys

    def add(self, who: Who, flow: Flow, size: float = 1.0) -> None:
        """`size`: how much of a turn it needs, beside others."""
        key = self._key(flow)
        self._arrivals += 1
        self._next[key[0], flow.name] = key[1] + size / flow.weight
        self._keys[who] = key
        self._flows[who] = key[0], flow.name
        heappush(self._heap, (key, who))

    def first(self) -> Who | None:
        """Whose turn it is; None: nobody waits."""
        while self._heap and self._keys.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][1] if self._heap else None

    def in_order(self) -> list[Who]:
        """Those that wait, in the order of their turns."""
        return sorted(self._keys, key=self._keys.__getitem__)

    def last_behind(self, flow: Flow) -> Who | None:
        """Of those that one of this flow goes before because of its priority, the one who would wait longest."""
        behind = [who for who, key in self._keys.items() if key[0] > _rank(flow)]
        return max(behind, key=self._keys.__getitem__, default=None)

    def ahead(self, flow: Flow) -> int:
        """How many would go before one of this flow that came now."""
        return len(self.before(flow))

    def before(self, flow: Flow) -> list[Who]:
        """Who would go before one of this flow that came now."""
        mine = self._key(flow)
        return [who for who, key in self._keys.items() if key < mine]

    def served(self, who: Who) -> None:
        """It had its turn."""
        key = self._keys.pop(who)
        del self._flows[who]
        self._virtual[key[0]] = max(self._virtual[key[0]], key[1])
        self._forget()

    def settle(self, flow: Flow, more: float) -> None:
        """What one of this flow took beyond the size that it was added with (below 0: less) goes to those of the flow that come after it."""
        of, shift = (_rank(flow), flow.name), more / flow.weight
        if of in self._next:
            self._next[of] += shift
        for who in [who for who, its in self._flows.items() if its == of]:
            rank, start, arrival = self._keys[who]
            key = self._keys[who] = rank, start + shift, arrival
            heappush(self._heap, (key, who))

    def leave(self, who: Who) -> bool:
        """It waits no more; False: it did not."""
        found = self._keys.pop(who, None) is not None
        self._flows.pop(who, None)
        self._forget()
        return found

    def _key(self, flow: Flow) -> _Key:
        rank = _rank(flow)
        return rank, max(self._virtual[rank], self._next.get((rank, flow.name), 0.0)), self._arrivals

    def _forget(self) -> None:
        if not self._keys:
            self._heap.clear()
            self._next.clear()
            self._virtual = [0.0, 0.0]


def _rank(flow: Flow) -> int:
    return 0 if flow.priority == "interactive" else 1
