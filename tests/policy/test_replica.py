"""Which replica a request goes to: where its prompt's begin is cached, unless that one is much busier; and how long somebody else's queue is."""

from hypothesis import given
from hypothesis import strategies as st

from policy.ask import Ask
from policy.load import behind_s
from policy.replica import MORE_REQUESTS, MORE_TIMES, Replica, choose


def ask(id: str = "req_1", tokens: int = 1000, **warm: int) -> Ask:
    return Ask(id, True, tokens, warm=warm)


def test_a_known_prompt_goes_to_the_replica_that_knows_most_of_it() -> None:
    idle = [Replica("a", 0, 0.0), Replica("b", 2, 0.0), Replica("c", 2, 0.0)]
    assert choose(idle, ask(b=400, c=900)) == "c"
    assert choose(idle, ask(b=99)) == "a", "less than a tenth is not worth the way"


def test_a_replica_that_is_much_busier_keeps_none() -> None:
    assert choose([Replica("a", 0, 0.0), Replica("b", 3, 0.0)], ask(b=900)) == "b"
    assert choose([Replica("a", 0, 0.0), Replica("b", 4, 0.0)], ask(b=900)) == "a"
    assert choose([Replica("a", 0, 0.0), Replica("b", 0, 0.5)], ask(b=900)) == "a", "a queue is worse than a cold cache"


def test_the_less_of_the_prompt_it_knows_the_less_busier_a_replica_may_be() -> None:
    def chosen(load: int, knows: int) -> str:
        return choose([Replica("a", 0, 0.0), Replica("b", load, 0.0)], ask(b=knows))

    assert [chosen(load, 500) for load in range(5)] == ["b", "b", "b", "b", "a"]
    assert [chosen(load, 200) for load in range(5)] == ["b", "b", "a", "a", "a"]
    assert [chosen(load, 120) for load in range(3)] == ["b", "a", "a"], "its cache held little of what it was thought to"


def test_of_few_slots_a_replica_may_be_less_busier() -> None:
    def chosen(load: int, slots: int) -> str:
        return choose([Replica("a", 0, 0.0, slots), Replica("b", load, 0.0, slots)], ask(b=900))

    assert [chosen(load, 2) for load in range(3)] == [chosen(load, 4) for load in range(3)] == ["b", "b", "a"]
    assert [chosen(load, 8) for load in range(4)] == ["b", "b", "b", "a"] and chosen(3, 256) == "b" and chosen(4, 256) == "a"


def test_replicas_alike_take_turns_by_the_request_alone() -> None:
    alike = [Replica("a", 1, 0.0), Replica("b", 1, 0.0)]
    chosen = [choose(alike, ask(f"req_{number}")) for number in range(100)]
    assert 25 < chosen.count("a") < 75
    assert chosen == [choose(alike, ask(f"req_{number}")) for number in range(100)]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 1000)), min_size=1, max_size=6))
def test_nobody_has_much_more_than_the_idlest_when_he_gets_another(seen: list[tuple[int, int]]) -> None:
    replicas = [Replica(str(at), load, 0.0) for at, (load, _) in enumerate(seen)]
    chosen = int(choose(replicas, Ask("r", True, 1000, warm={str(at): warm for at, (_, warm) in enumerate(seen)})))
    idlest = min(load for load, _ in seen)
    assert seen[chosen][0] <= max(idlest + MORE_REQUESTS, idlest * MORE_TIMES)


def test_a_queue_takes_as_long_as_those_before_it() -> None:
    assert behind_s(8, 0, None, 2.0) == 0.0
    assert behind_s(8, 4, 0.5, 2.0) == 1.0
    assert behind_s(8, 0, 0.99, 2.0) == 0.25, "a full cache: somebody must end first"
    assert behind_s(0, 3, None, None) == 3.0
