"""Whose turn it is, where requests have to wait."""

from typing import Literal

import msgspec

Priority = Literal["interactive", "batch"]


class Flow(msgspec.Struct, frozen=True):
    """The requests that share a turn: a team's. `weight`: its share of the turns beside other flows of its priority. Batch waits for interactive."""

    name: str = ""
    weight: float = 1.0
    priority: Priority = "interactive"


NOBODY = Flow()
