"""A whole answer that was read: its bytes for the client, and what ledger, statistics and later requests need of it."""

import msgspec

from contract.finish import Finish
from contract.usage import Usage


class WholeAnswer(msgspec.Struct):
    """Implements `providers.wires.port.UnaryAnswer`."""

    body: bytes
    usage: Usage | None = None
    upstream_id: str | None = None
    finish: Finish | None = None
    tokens_seen: int = 1
    bound: list[str] = []
