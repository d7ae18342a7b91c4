"""The memory of questions: the most alike, within its bytes and its time; and what tells two questions apart."""

from random import Random

import pytest

from cache.guard import difference
from cache.port import OVERHEAD, Entry
from cache.semantic import Likenesses


def entry(name: str = "r") -> Entry:
    return Entry(owner="/t", request_id=name, target="one/m", headers=(), body=b"", cuts=(), made_at=0.0, cost_nusd=1)


def found(memory: Likenesses, vector: list[float], threshold: float = 0.9, now: float = 0.0, context: bytes = b"c") -> str | None:
    kept = memory.find(context, "how is it", vector, threshold, now)
    return None if kept is None else kept.entry.request_id


def test_the_most_alike_of_its_context_is_found() -> None:
    memory = Likenesses(1 << 20)
    memory.put(b"c", "how is it", [1.0, 0.0, 0.2], entry("far"), 10.0)
    memory.put(b"c", "how is it ", [1.0, 0.1, 0.0], entry("near"), 10.0)
    assert found(memory, [2.0, 0.2, 0.0]) == "near"
    assert found(memory, [0.0, 1.0, 0.0]) is None
    assert found(memory, [2.0, 0.2, 0.0], context=b"d") is None
    assert found(memory, [2.0, 0.2]) is None and found(memory, [0.0, 0.0, 0.0]) is None
    assert found(memory, [2.0, 0.2, 0.0], now=10.0) is None and memory.bytes == 0


def test_among_thousands_it_is_still_found() -> None:
    memory, random = Likenesses(64 << 20), Random(1)
    vectors = [[random.gauss(0, 1) for _ in range(64)] for _ in range(2000)]
    for number, vector in enumerate(vectors):
        memory.put(b"c", f"how is it{' ' * number}", vector, entry(str(number)), 10.0)
    for number in (0, 777, 1999):
        assert found(memory, [value + random.gauss(0, 0.1) for value in vectors[number]]) == str(number)


def test_it_stays_within_its_bytes() -> None:
    memory = Likenesses(40 * OVERHEAD)
    for number in range(200):
        memory.put(b"%d" % (number % 7), str(number), [1.0, float(number)], entry(), 10.0)
        assert memory.bytes <= 40 * OVERHEAD
    assert memory.bytes > 30 * OVERHEAD


SAME = [
    ("How do I reset my password?", "How can I reset the password of my account?"),
    ("What is the capital of France?", "what's the capital of France"),
    ("Can I cancel my order?", "Is it possible to cancel an order that I made?"),
    ("Wie kann ich mein Passwort ändern?", "Wie ist das Passwort zu ändern, das ich nutze?"),
]
DIFFERENT = [
    ("Can I cancel my order?", "Can I not cancel my order?", "negation"),
    ("Is milk safe for cats?", "Isn't milk safe for cats?", "negation"),
    ("Darf ich das Paket öffnen?", "Darf ich das Paket nicht öffnen?", "negation"),
    ("Puis-je annuler la commande ?", "Puis-je ne pas annuler la commande ?", "negation"),
    ("可以退货吗", "不可以退货吗", "negation"),
    ("Is it safe to take ibuprofen with alcohol?", "Is it unsafe to take aspirin with alcohol?", "negation"),
    ("Isn't it safe with alcohol?", "Is it safe without alcohol?", "negation"),
    ("List the cheapest flights to the coast", "List flights to the coast", "scope"),
    ("Only list flights to the coast", "List flights to the coast", "scope"),
    ("Convert 5 miles to km", "Convert 50 miles to km", "number"),
    ("Range from 5 to 10", "Range from 10 to 5", "number"),
    ("Give me two ideas for lunch", "Give me three ideas for lunch", "number"),
    ("What happened in May?", "What happened in June?", "time"),
    ("Is it open today?", "Is it open tomorrow?", "time"),
    ("Who wrote the report?", "When was the report written?", "question word"),
    ("How many users are there?", "How much do users pay?", "question word"),
    ("What is the capital of France?", "What is the capital of Germany?", "name"),
    ("Flights from Paris to London", "Flights from London to Paris", "name"),
    ("how do i enable logging", "how do i disable logging", "word"),
    ("does the dog bite the man", "does the man bite the dog", "order"),
    ("What is the capital of France?", "Quelle est la capitale de la France ?", "language"),
    ("What is the capital?", "какая столица", "language"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_only_is_worded_otherwise_is_let_through(one: str, other: str) -> None:
    assert difference(one, other) is None and difference(other, one) is None


@pytest.mark.parametrize(("one", "other", "why"), DIFFERENT)
def test_what_an_embedding_hardly_sees_is_seen(one: str, other: str, why: str) -> None:
    assert difference(one, other) == why and difference(other, one) == why
