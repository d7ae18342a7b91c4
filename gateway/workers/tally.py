"""How many connections each worker has, in memory that all of them and their parent see."""

import mmap
import os
import tempfile

ABSENT = -1  # it takes no connections


class Tally:
    """One number for each place, from 1; whoever has the place writes it. A number is read whole or not at all: it is one machine word's part."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._counts = memoryview(mmap.mmap(descriptor, 0)).cast("i")

    @classmethod
    def of(cls, places: int) -> "Tally":
        """A new one, with nobody there."""
        with tempfile.TemporaryFile() as file:
            file.write((ABSENT).to_bytes(4, "little", signed=True) * (places + 1))
            file.flush()
            return cls(os.dup(file.fileno()))

    def __setitem__(self, place: int, count: int) -> None:
        self._counts[place] = count

    def fewest_beside(self, place: int) -> int | None:
        """The fewest that another worker has; None: there is no other."""
        return min((count for other, count in enumerate(self._counts) if count != ABSENT and other != place), default=None)
