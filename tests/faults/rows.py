"""The form of the fault table: a fault, the cells that it is played in, and what is expected of each."""

from dataclasses import dataclass
from typing import Literal

from tests.faults.dialects import Speech
from tests.faults.upstreams import Fault

Mode = Literal["stream", "unary"]
Plan = Literal["fallback", "alone", "hold"]
Address = Literal["shared", "own", "closed", "full", "nowhere", "tls"]
QUICK_S = 2.0


@dataclass(frozen=True)
class Expect:
    """What the caller must see, and what must be behind it. Words that may vary are regular expressions.

    `answer`: `a:60` all of a's text, `a:40 CODE` its beginning and an error in its band, `CODE` an error in an answer's place. `trail`: the ledger's
    attempts in order, `TARGET ok` or `TARGET [STATUS] CODE`, ` xN-M` for several. `elapsed`: seconds. `apart`: the least between two calls of a.
    `most_sent`: bytes that a could send before it was stopped. `usage`: whence the ledger has it for the answer. `filtered`: that its end
    tells of a content filter. `breaker`: of a, afterwards.
    """

    status: int
    answer: str
    trail: str
    elapsed: tuple[float, float] = (0.0, QUICK_S)
    retry_after: tuple[float, float] | None = None
    apart: float = 0.0
    most_sent: int | None = None
    usage: str = "provider"
    filtered: bool = False
    breaker: str = "closed"


@dataclass(frozen=True)
class Row:
    """One fault. `a`, `b`, `c`: what the targets do, one fault a request, the last for ever. `clocks`: a's, where not the default ones.

    `begun`: the caller's last message is the assistant's. `heavy`: megabytes pass, so that such cells are played one at a time.
    """

    name: str
    source: str
    a: tuple[Fault, ...]
    stream: dict[Plan, Expect]
    unary: dict[Plan, Expect]
    b: tuple[Fault, ...] = ()
    c: tuple[Fault, ...] = ()
    clocks: str = "{}"
    address: Address = "shared"
    begun: bool = False
    heavy: bool = False
    dialects: tuple[str, ...] = ("chat", "messages", "responses", "embeddings")
    modes: tuple[Mode, ...] = ("stream", "unary")
    plans: tuple[Plan, ...] = ("fallback", "alone", "hold")


@dataclass(frozen=True)
class Cell:
    """`speech`: the caller's dialect, and the targets', but for `translated`: a's, where it is another."""

    row: Row
    speech: Speech
    mode: Mode
    plan: Plan
    translated: Speech | None = None

    @property
    def name(self) -> str:
        dialects = self.speech.NAME if self.translated is None else f"{self.speech.NAME} from {self.translated.NAME}"
        return f"{self.row.name} - {dialects} - {self.mode} - {self.plan}"

    def spoken(self, owner: str) -> Speech:
        """What a target speaks."""
        return self.translated if owner == "a" and self.translated is not None else self.speech

    @property
    def expect(self) -> Expect:
        return (self.row.stream if self.mode == "stream" else self.row.unary)[self.plan]
