"""A replay from its settings to its figures: the one place that reads the ledger."""

from typing import Any

from sqlalchemy import Engine

from config.settings import Settings
from gateway.replay.budgets import Budgets
from gateway.replay.places import Places
from gateway.replay.replaying import Replay, Span
from gateway.replay.sums import Sums
from ledger.history import history
from policy.evidence import Evidence

EVIDENCE_S = 3600.0


def replay(settings: Settings, ledger: Engine, span: Span, evidence_s: float = EVIDENCE_S) -> dict[str, Any]:
    """The figures of `Sums.told`. `evidence_s`: how long before and after a request a recorded attempt may stand for one.

    Nothing is written, started or asked. Raises WeightsNotFound, ValueError, SQLAlchemyError.
    """
    places, sums = Places(settings), Sums(Budgets(settings, ledger, span.from_us))
    Replay(places, Evidence(evidence_s), sums, span).run(history(ledger, span.origin_us, span.to_us))
    return sums.told(frozenset(settings.engine_replicas))
