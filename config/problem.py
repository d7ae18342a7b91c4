"""What is wrong with settings, before its place in the file is looked up."""

from typing import NamedTuple

from config.document import Path_


class Problem(NamedTuple):
    """`path`: of the value at fault, or of its key. `advice`: the configuration works, but not as its author will have meant it.

    `note`: it may well be meant, and is only told.
    """

    message: str
    path: Path_
    key: bool = False
    advice: bool = False
    note: bool = False


def problem(message: str, *path: str | int, key: bool = False, advice: bool = False, note: bool = False) -> Problem:
    return Problem(message, path, key, advice, note)
