"""Which of an engine's last lines says why it ended, found while they pass."""

import re
from collections.abc import Callable
from math import inf
from time import monotonic

# The last line of a Python traceback, after whatever stands before it in a log: `ValueError: …`, `torch.OutOfMemoryError: …`.
EXCEPTION = re.compile(r"(?:^|[\])] )(?P<said>(?:\w+\.)*[A-Z]\w*(?:Error|Exception)\b(?:: .*)?)$")
# In a traceback an exception may be called anything.
CALLED = re.compile(r"(?:^|[\])] )(?P<said>(?:\w+\.)*[A-Z]\w*(?:: .*)?)$")
TRACE, FRAME, MARKS = "Traceback (most recent call last)", re.compile(r"\bFile \"[^\"]*\", line \d+"), re.compile(r"[\s)\]^~][\^~]+\s*$")
INVALID, EXPLAINED = re.compile(r"\d+ validation errors? for "), "For further information"  # pydantic's, which say what in the lines after it
PREFIX = re.compile(r"^(?:\(\w+ pid=\d+\) )?(?:ERROR \S+ \S+ \[\S+\] )?\s*")
PASSING = re.compile(r"\b(?:DEBUG|INFO|WARNING)\b")  # what is logged so did not end it
ELSEWHERE = re.compile(r"root cause above|stack trace \(?above")  # vLLM's last exceptions name no cause, but say where it stands
COMPLAINT = re.compile(r"\berror\b|\bfail(?:ed|ure)?\b|\bcannot\b|\bout of memory\b", re.IGNORECASE)
MOST_CHARACTERS = 300
LAST_WORDS_S = 10.0  # what one that was ready said before that did not end it
NO_VLLM = "No module named 'vllm'"
GET_VLLM = "`turnout engines install vllm` makes its environment"


class Cause:
    """`told`: the exception that ended it; else its last complaint; else its last line; None: it said nothing.

    Of several exceptions the last is the one that was not caught; where that points at one before it, the first is meant. Of one that was ready
    only what it said in its last seconds counts, so of one that was killed in the middle of its work there is nothing to tell.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._within_s = inf
        self._forget()

    def _forget(self) -> None:
        self._first = self._last = self._complaint = self._line = ""
        self._points_back, self._heard_at = False, self._clock()
        self._in_trace = self._in_frame = self._in_detail = False

    def is_ready(self) -> None:
        """It is ready: nothing of its start ended it."""
        self._forget()
        self._within_s = LAST_WORDS_S

    def add(self, line: str) -> None:
        if self._clock() - self._heard_at > self._within_s:
            self._forget()
        self._heard_at = self._clock()
        if ELSEWHERE.search(line):
            self._points_back = True
            return
        if self._is_frame(line) or self._is_detail(line):
            return
        passing = PASSING.search(line) is not None
        if not passing or self._within_s == inf:
            self._line = line
        if COMPLAINT.search(line) and not passing:
            self._complaint = line
        if not passing and (found := EXCEPTION.search(line) or (CALLED.search(line) if self._in_trace else None)):
            self._first = self._first or found["said"]
            self._last = found["said"]
            self._in_detail = INVALID.search(line) is not None
        self._in_trace = False

    def _is_frame(self, line: str) -> bool:
        """Whether it only says where in its code something happened."""
        code, self._in_frame = self._in_frame and EXCEPTION.search(line) is None, FRAME.search(line) is not None
        begins = TRACE in line
        self._in_trace = self._in_trace or begins
        return begins or self._in_frame or code or MARKS.search(line) is not None

    def _is_detail(self, line: str) -> bool:
        """Whether it goes on with the exception before it."""
        more = len(self._last) < MOST_CHARACTERS and EXPLAINED not in line and EXCEPTION.search(line) is None
        self._in_detail = self._in_detail and more
        if self._in_detail:
            self._last = f"{self._last} {PREFIX.sub('', line)}"
        return self._in_detail

    @property
    def told(self) -> str | None:
        if self._clock() - self._heard_at > self._within_s:
            return None
        said = ((self._first if self._points_back else self._last) or self._complaint or self._line)[:MOST_CHARACTERS]
        return (f"{said}: {GET_VLLM}" if NO_VLLM in said else said) or None
