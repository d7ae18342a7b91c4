"""Rows from hand to hand, on SQLite and PostgreSQL: one worker at a time, nobody who is late, sums that are those of the rows."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from batch import leases
from batch.schema import BatchTablesTooNew, batch_rows, batch_version, bring_up
from batch.states import Batch, File, Leased, Outcome, Place, Used
from batch.store import Store

ID = "batch_1"
FAR = 10**15


def made(store: Store, rows: int = 20, id: str = ID, team: str = "red", made_at_us: int = 1) -> Batch:
    batch = Batch(
        id=id,
        team=team,
        key_id="k",
        dialect="openai",
        endpoint="/v1/chat/completions",
        source=f"file-{id}",
        status="in_progress",
        window="24h",
        headers="[]",
        made_at_us=made_at_us,
        in_progress_at_us=made_at_us,
        expires_at_us=FAR,
        total=rows,
    )
    store.add(batch, [Place(line, f"r{line}", line * 10, 10) for line in range(1, rows + 1)])
    return batch


def lease(store: Store, worker: str, limit: int, now_us: int = 10, until_us: int = 100) -> list[Leased]:
    return leases.lease(store.engine, ID, worker, limit, now_us, until_us)


def settle(store: Store, worker: str, *outcomes: Outcome) -> list[bool]:
    with store.engine.begin() as connection:
        return leases.settle(connection, worker, outcomes, 50)


def done(row: Leased, nusd: int | None = 7) -> Outcome:
    return Outcome(
        row=row, state="succeeded", request_id="req", status_code=200, target="one", answer=b"{}", used=Used(3, 1, 2, 0, nusd), counts=False
    )


def test_a_row_is_one_worker_s_alone_and_in_the_order_of_the_file(store: Store) -> None:
    made(store)
    first, second = lease(store, "a", 8), lease(store, "b", 8)
    assert [row.line for row in first] == list(range(1, 9)) and [row.line for row in second] == list(range(9, 17))
    assert [row.line for row in lease(store, "a", 8)] == [17, 18, 19, 20] and lease(store, "b", 8) == []


def test_workers_at_once_share_the_rows_without_one_twice(store: Store) -> None:
    made(store, 200)
    with ThreadPoolExecutor(4) as pool:
        found = [row.line for rows in pool.map(lambda n: lease(store, f"w{n % 4}", 10), range(24)) for row in rows]
    assert sorted(found) == sorted(set(found)) and len(found) >= 190


def test_results_are_counted_once_and_a_late_worker_s_not_at_all(store: Store) -> None:
    made(store, 3)
    one, two, three = lease(store, "a", 3)
    assert settle(store, "a", done(one), done(two, None)) == [True, True]
    assert settle(store, "a", done(one)) == [False], "it was written already"
    assert leases.reclaim(store.engine, "b", [ID], 101) == 1
    (again,) = lease(store, "b", 3, now_us=102, until_us=200)
    assert (again.line, again.fence) == (three.line, three.fence + 1)
    assert settle(store, "a", done(three)) == [False], "another worker has it"
    assert settle(store, "b", done(again)) == [True]
    batch = store.get("red", ID)
    assert batch is not None and (batch.succeeded, batch.cost_nusd, batch.unpriced, batch.input_tokens, batch.repeated) == (3, 14, 1, 9, 1)
    assert store.targets(ID) == {"one": 3} and not store.open_rows(ID)


def test_a_worker_that_is_heard_of_keeps_its_rows(store: Store) -> None:
    made(store, 2)
    lease(store, "a", 2, until_us=100)
    leases.heartbeat(store.engine, "a", [ID], 300)
    assert leases.reclaim(store.engine, "b", [ID], 200) == 0
    assert leases.reclaim(store.engine, "b", [ID], 301) == 2
    assert leases.reclaim(store.engine, "b", [ID], 301, alone=True) == 0


def test_rows_and_batches_of_a_worker_that_is_known_to_be_dead_wait_again_at_once(store: Store) -> None:
    made(store)
    lease(store, "a", 3, until_us=FAR)
    lease(store, "b", 2, until_us=FAR)
    assert store.claim(ID, "a", 10, FAR) and not store.claim(ID, "c", 10, FAR)
    assert leases.reclaim(store.engine, "c", [ID], 20, dead=["a"]) == 3
    assert [row.line for row in lease(store, "c", 4)] == [1, 2, 3, 6]
    assert store.claim(ID, "c", 10, FAR)


def test_who_is_alone_has_the_rows_of_the_dead_at_once(store: Store) -> None:
    made(store, 2)
    lease(store, "a", 2, until_us=FAR)
    assert leases.reclaim(store.engine, "b", [ID], 20, alone=True) == 2


def test_a_row_that_waits_is_not_leased_before_its_time(store: Store) -> None:
    made(store, 1)
    (row,) = lease(store, "a", 1)
    assert settle(store, "a", Outcome(row=row, state="pending", counts=True, not_before_us=1000)) == [True]
    assert lease(store, "a", 1, now_us=999) == []
    (again,) = lease(store, "a", 1, now_us=1000)
    assert again.attempts == 1


def test_a_cancelled_batch_leases_nothing_and_its_rows_end_with_it(store: Store) -> None:
    made(store, 4)
    one, two = lease(store, "a", 2)
    cancelled = store.cancel("red", ID, 60)
    assert cancelled is not None and cancelled.status == "cancelling"
    assert lease(store, "a", 2) == []
    assert settle(store, "a", done(one), Outcome(row=two, state="pending")) == [True, True]
    store.end_pending(cancelled, 70)
    batch = store.get("red", ID)
    assert batch is not None and (batch.succeeded, batch.cancelled) == (1, 3) and not store.open_rows(ID)
    assert [row.state for row in store.ended_rows(ID, 0)] == ["succeeded", "cancelled", "cancelled", "cancelled"]


def test_an_answer_of_bytes_that_no_text_has_is_kept(store: Store) -> None:
    made(store, 1)
    (row,) = lease(store, "a", 1)
    settle(store, "a", Outcome(row=row, state="succeeded", answer=b"\x00\xff", status_code=200))
    assert store.ended_rows(ID, 0)[0].answer == b"\x00\xff"
    store.drop_answers(ID)
    assert store.ended_rows(ID, 0)[0].answer is None


def test_one_worker_checks_a_batch_and_what_another_left_goes(store: Store) -> None:
    batch = made(store, 0)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE batches SET status = 'validating'")
    assert store.claim(batch.id, "a", 10, 20) and not store.claim(batch.id, "b", 15, 30)
    assert store.add_places(batch.id, "a", 20, [Place(1, "x", 0, 1)])
    assert store.claim(batch.id, "b", 25, 40)
    assert not store.add_places(batch.id, "a", 50, [Place(2, "y", 0, 1)]), "it lost it"
    store.begin_places(batch.id, "b")
    assert store.add_places(batch.id, "b", 50, [Place(1, "x", 0, 1)]) and store.checked(batch.id, "b", 30, 1, None)
    assert not store.checked(batch.id, "a", 30, 1, "[]")
    found = store.get("red", batch.id)
    assert found is not None and (found.status, found.total) == ("in_progress", 1)


def test_a_batch_ends_once_with_its_files(store: Store) -> None:
    batch = made(store, 0)
    assert store.claim(batch.id, "a", 10, 20)
    output = File("file-out", "red", "batch_output", "o.jsonl", 5, 30)
    assert store.finished(batch, "a", 30, ("file-out", None), [output]) and not store.finished(batch, "a", 31, ("file-out", None), [output])
    assert store.file("red", "file-out", 40) == output and store.file("blue", "file-out", 40) is None
    assert not store.claim(batch.id, "a", 50, 60)
    assert [each.id for each in store.untold(0)] == [batch.id]
    store.told(batch.id, 60)
    assert store.untold(0) == []
    assert store.drop("blue", [batch.id]) == [] and list(store.drop("red", [batch.id])) == [(batch.id, "openai", batch.source)]
    with store.engine.connect() as connection:
        assert connection.execute(select(batch_rows)).all() == []


def test_pages_follow_one_another(store: Store) -> None:
    for number in range(5):
        made(store, 0, f"batch_{number}", made_at_us=number // 2)
    everything = [each.id for each in store.page("red", "openai", None, None, 10)]
    assert everything == [f"batch_{number}" for number in (4, 3, 2, 1, 0)]
    assert [each.id for each in store.page("red", "openai", "batch_3", None, 2)] == ["batch_2", "batch_1"]
    assert [each.id for each in store.page("red", "openai", None, "batch_1", 2)] == ["batch_3", "batch_2"]
    assert store.page("blue", "openai", None, None, 10) == []


def test_files_expire_unless_a_batch_reads_them(store: Store) -> None:
    made(store, 1)
    for id, expires in (("file-batch_1", 5), ("file-2", 5), ("file-3", None)):
        store.add_file(File(id, "red", "batch", "a", 1, 1, expires))
    assert [each.id for each in store.files("red", 4, "batch", None, False, 10)] == ["file-2", "file-3", "file-batch_1"]
    assert store.expired_files(10) == ["file-2"]
    assert [each.id for each in store.files("red", 10, None, None, False, 10)] == ["file-3"]


def test_tables_of_a_later_version_are_left_alone(store: Store) -> None:
    bring_up(store.engine)
    with store.engine.begin() as connection:
        connection.execute(batch_version.update().values(version=99))
    with pytest.raises(BatchTablesTooNew, match="version 99"):
        bring_up(store.engine)
