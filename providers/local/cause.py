"""Which of an engine's last lines says why it ended, found while they pass."""

import re

# The last line of a Python traceback, after whatever stands before it in a log: `ValueError: …`, `torch.OutOfMemoryError: …`.
EXCEPTION = re.compile(r"(?:^|[\])] )(?P<said>(?:\w+\.)*[A-Z]\w*(?:Error|Exception)\b(?:: .*)?)$")
PASSING = re.compile(r"\b(?:DEBUG|INFO|WARNING)\b")  # what is logged so did not end it
ELSEWHERE = "root cause above"  # vLLM's last exception names no cause, but says where it stands
COMPLAINT = re.compile(r"\berror\b|\bfail(?:ed|ure)?\b|\bcannot\b|\bout of memory\b", re.IGNORECASE)
MOST_CHARACTERS = 300


class Cause:
    """`told`: the exception that ended it; else its last complaint; else its last line; None: it said nothing.

    Of several exceptions the last is the one that was not caught; where that points at one before it, the first is meant.
    """

    def __init__(self) -> None:
        self._first = self._last = self._complaint = self._line = ""
        self._points_back = False

    def add(self, line: str) -> None:
        self._line = line
        self._points_back = self._points_back or ELSEWHERE in line
        if ELSEWHERE in line:
            return
        if COMPLAINT.search(line):
            self._complaint = line
        if not PASSING.search(line) and (found := EXCEPTION.search(line)):
            self._first = self._first or found["said"]
            self._last = found["said"]

    @property
    def told(self) -> str | None:
        said = (self._first if self._points_back else self._last) or self._complaint or self._line
        return said[:MOST_CHARACTERS] or None
