"""What an answer leaves for later requests: the states that bind them to its target, and answers kept for targets that keep none."""

import msgspec

from contract.call import Call
from gateway.job import Job
from gateway.routes import Target
from ledger.continuity import Continuity, KeptAnswer
from providers.port import Exchange
from providers.wires.openai_responses.history import input_items
from providers.wires.port import UnaryAnswer


class _Answer(msgspec.Struct):
    id: str


class Keeper:
    """Called once for each whole answer, on the request path: for most it compares a string and looks at an empty list."""

    def __init__(self, continuity: Continuity) -> None:
        self._continuity = continuity

    def note(self, job: Job, target: Target, exchange: Exchange, last: bytes) -> None:
        """`last`: a unary answer's body; b"" at a stream's end."""
        self.bind(job, target, exchange)
        if self._keeps(job.call, target) and (answer := exchange.whole if exchange.streamed else last):
            self._keep(job.principal.team, job.call, answer)

    def _keeps(self, call: Call, target: Target) -> bool:
        """Whether the answer to it is one that we keep, because its client may go on from it and the target does not keep it."""
        if call.dialect != "openai_responses" or target.keeps_responses or bytes(call.fields.get("store", b"")) == b"false":
            return False
        return bool(self._continuity.days)

    def note_later(self, team: str, call: Call, target: Target, answer: UnaryAnswer) -> None:
        """Of an answer that came by a batch's results."""
        if answer.bound:
            self._continuity.bind(team, answer.bound, target.label)
        if self._keeps(call, target):
            self._keep(team, call, answer.body)

    def bind(self, job: Job, target: Target, exchange: Exchange) -> None:
        """Notes whose states the client was given."""
        if bound := exchange.bound:
            self._continuity.bind(job.principal.team, bound, target.label)

    def _keep(self, team: str, call: Call, answer: bytes) -> None:
        kept = KeptAnswer(
            id=msgspec.json.decode(answer, type=_Answer).id, model=call.model, input=msgspec.json.encode(input_items(call.fields)), answer=answer
        )
        self._continuity.keep(team, kept)
