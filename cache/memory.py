"""Answers in this process's memory: bounded in bytes, the least recently used go first, none outlives its time. Pure: time is an argument."""

from collections import OrderedDict

from cache.port import Entry, Kept


class Memory:
    """Times are time.monotonic() seconds. Of `size` bytes no entry may have more than an eighth."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: OrderedDict[bytes, tuple[float, Entry]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: bytes, now: float) -> Kept | None:
        found = self._held.get(key)
        if found is None:
            return None
        until, entry = found
        if until <= now:
            self.drop(key)
            return None
        self._held.move_to_end(key)
        return Kept(entry, until - now)

    def put(self, key: bytes, entry: Entry, until: float) -> None:
        self.drop(key)
        if entry.size * 8 > self._size:
            return
        self._held[key] = until, entry
        self.bytes += entry.size
        while self.bytes > self._size:
            self.drop(next(iter(self._held)))

    def drop(self, key: bytes) -> None:
        found = self._held.pop(key, None)
        if found is not None:
            self.bytes -= found[1].size
