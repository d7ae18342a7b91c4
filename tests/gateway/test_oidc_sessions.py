"""How long a session lasts; the clock is the test's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from contract.errors import LedgerUnavailable
from gateway.admin.sessions import ABSOLUTE_S, IDLE_S, Session, Sessions, csrf_of
from ledger.database import open_engine
from ledger.schema import admin_sessions

ADA = Session("ada", "Ada", ("admins",))


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path}/turnout.db")
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: Engine, clock: Clock) -> Sessions:
    return Sessions(engine, "https://id.example", clock)


def test_a_session_is_found_by_its_id_alone(sessions: Sessions) -> None:
    id = sessions.make(ADA)
    assert sessions.find(id) == ADA
    assert sessions.find(id[:-1]) is None and sessions.find("") is None


def test_a_session_that_rests_too_long_is_over(sessions: Sessions, clock: Clock) -> None:
    id = sessions.make(ADA)
    clock.now += IDLE_S
    assert sessions.find(id) is None


def test_a_session_in_use_does_not_become_idle(sessions: Sessions, clock: Clock) -> None:
    id = sessions.make(ADA)
    for _ in range(3):
        clock.now += IDLE_S - 1
        assert sessions.find(id) == ADA


def test_a_session_in_use_is_over_after_its_longest_time(sessions: Sessions, clock: Clock) -> None:
    id = sessions.make(ADA)
    began = clock.now
    while clock.now + IDLE_S - 1 < began + ABSOLUTE_S:
        clock.now += IDLE_S - 1
        assert sessions.find(id) == ADA
    clock.now = began + ABSOLUTE_S
    assert sessions.find(id) is None


def test_an_ended_session_is_over(sessions: Sessions) -> None:
    id, other = sessions.make(ADA), sessions.make(ADA)
    sessions.end(id)
    assert sessions.find(id) is None and sessions.find(other) == ADA


def test_a_session_of_another_provider_is_not_ours(engine: Engine, sessions: Sessions, clock: Clock) -> None:
    assert Sessions(engine, "https://other.example", clock).find(sessions.make(ADA)) is None


def test_sessions_that_are_over_leave_the_database(engine: Engine, sessions: Sessions, clock: Clock) -> None:
    sessions.make(ADA)
    clock.now += IDLE_S
    sessions.make(ADA)
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(admin_sessions)).scalar() == 1


def test_each_session_has_a_csrf_token_of_its_own(sessions: Sessions) -> None:
    one, other = sessions.make(ADA), sessions.make(ADA)
    assert csrf_of(one) == csrf_of(one) != csrf_of(other)
    assert one not in csrf_of(one)


def test_a_database_that_fails_lets_nobody_in(engine: Engine, sessions: Sessions) -> None:
    id = sessions.make(ADA)
    with engine.begin() as connection:
        admin_sessions.drop(connection)
    with pytest.raises(LedgerUnavailable):
        sessions.find(id)
