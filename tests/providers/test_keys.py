"""Several keys for one provider: taken in turn, each resting for itself, and never shown."""

import json
from collections.abc import AsyncIterator, Iterator
from time import monotonic

import msgspec
import pytest
from structlog.testing import capture_logs

from contract import errors as e
from contract.call import Call
from contract.errors import AttemptError
from providers.address import Chosen, address_of, headers_of, native_dialects
from providers.backend import HttpBackend, ProviderSpec
from providers.build import routes_of
from providers.http.client import PooledClient
from providers.http.port import Clocks
from providers.keys import ApiKey, Key, KeyRing
from providers.port import Marks
from providers.registry import PROVIDER_KINDS
from tests.gateway.upstream import Exchange, Upstream, chunk, good, status

LIMITED, SPENT, REFUSED, FORBIDDEN = e.RateLimited, e.QuotaExhausted, e.UpstreamAuthFailed, "403"


def ring_of(*ids: str) -> KeyRing:
    return KeyRing("lab", [ApiKey(id, ((b"authorization", f"Bearer sk-{id}".encode()),)) for id in ids])


def error_of(kind: type[AttemptError] | str, retry_after_s: float | None = None) -> AttemptError:
    error = (e.UpstreamAuthFailed if kind == FORBIDDEN else kind)("no", retry_after_s=retry_after_s)
    error.upstream_status = 403 if kind == FORBIDDEN else {LIMITED: 429, SPENT: 429, REFUSED: 401}.get(kind, 500)
    return error


def fails(ring: KeyRing, key: str | None, kind: type[AttemptError] | str, at: float, retry_after_s: float | None = None, model: str = "m") -> None:
    """A request that began `at` is refused at once."""
    ring.failed(key, model, error_of(kind, retry_after_s), at, at)


# --- how long a key rests -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "retry_after_s", "rests_s", "for_every_model"),
    [
        (LIMITED, 7.0, 7.0, False),
        (LIMITED, 0.0, 0.0, False),
        (LIMITED, 86_400.0, 300.0, False),
        (LIMITED, None, 5.0, False),
        (SPENT, None, 60.0, True),
        (SPENT, 1.0, 60.0, True),
        (SPENT, 100.0, 100.0, True),
        (REFUSED, None, 60.0, True),
        (FORBIDDEN, None, 60.0, False),
    ],
)
def test_a_refused_key_rests_for_the_time_and_the_models_that_the_refusal_is_about(
    kind: type[AttemptError] | str, retry_after_s: float | None, rests_s: float, for_every_model: bool
) -> None:
    """A sole key rests for the model alone: the whole provider would rest with it."""
    ring = ring_of("a", "b")
    key = ring.take("m", 1000.0)
    fails(ring, key.id, kind, 1000.0, retry_after_s)
    assert key.ready_at("m") == 1000.0 + rests_s
    assert key.ready_at("other") == (1000.0 + rests_s if for_every_model else 0.0)
    sole = ring_of("a")
    fails(sole, None, kind, 1000.0, retry_after_s)
    assert (sole.ready_at("m"), sole.ready_at("other")) == (1000.0 + rests_s, 0.0)


@pytest.mark.parametrize(
    ("kind", "lengths"), [(LIMITED, [5, 10, 20, 40, 60, 60]), (SPENT, [60, 120, 240, 480, 600, 600]), (REFUSED, [60, 120, 240, 480, 600, 600])]
)
def test_a_rest_in_vain_doubles_up_to_its_bound(kind: type[AttemptError], lengths: list[float]) -> None:
    ring, now, seen = ring_of("a"), 0.0, []
    for _ in lengths:
        fails(ring, None, kind, now)
        seen.append(ring.ready_at("m") - now)
        now = ring.ready_at("m")
    assert seen == lengths


def test_a_success_forgets_the_doubling() -> None:
    ring = ring_of("a")
    fails(ring, None, LIMITED, 0.0)
    fails(ring, None, LIMITED, 5.0)
    ring.succeeded(ring.take("m", 20.0), "m", 20.0)
    fails(ring, None, LIMITED, 30.0)
    assert ring.ready_at("m") == 35.0


def test_requests_that_were_under_way_together_count_as_one_refusal() -> None:
    ring = ring_of("a")
    for began, ended in ((0.0, 10.0), (1.0, 10.1), (9.0, 10.2)):
        ring.failed(None, "m", error_of(LIMITED), began, ended)
    assert ring.ready_at("m") == 15.0
    ring.failed(None, "m", error_of(LIMITED, 60.0), 9.5, 10.3)
    assert ring.ready_at("m") == 70.3, "but the longest that the provider asks for is kept to"


def test_a_success_that_began_before_the_refusal_does_not_lift_it() -> None:
    ring = ring_of("a")
    key = ring.take("m", 0.0)
    fails(ring, None, LIMITED, 1.0, 60.0)
    ring.succeeded(key, "m", 0.0)
    assert ring.ready_at("m") == 61.0


@pytest.mark.parametrize("cls", [e.UpstreamError, e.UpstreamOverloaded, e.ConnectionLost, e.UpstreamRejected, e.StreamCut, e.UpstreamModelNotFound])
def test_what_is_not_about_a_key_leaves_it_alone(cls: type[AttemptError]) -> None:
    ring = ring_of("a", "b")
    fails(ring, "a", cls, 0.0, 60.0)
    assert ring.ready_at("m") == 0.0 and ring.take("m", 1.0).id == "a"


# --- which key is taken -------------------------------------------------------------------------------------------------
def test_keys_are_taken_in_turn() -> None:
    ring = ring_of("a", "b", "c")
    assert [ring.take("m", float(now)).id for now in range(7)] == ["a", "b", "c", "a", "b", "c", "a"]


def test_a_resting_key_is_passed_over_and_comes_back_in_its_turn() -> None:
    ring = ring_of("a", "b", "c")
    fails(ring, "b", LIMITED, 0.0, 10.0)
    assert [ring.take("m", float(now)).id for now in range(1, 5)] == ["a", "c", "a", "c"]
    assert [ring.take("m", float(now)).id for now in range(10, 13)] == ["b", "a", "c"]


def test_a_limit_on_one_model_leaves_the_key_to_the_others() -> None:
    ring = ring_of("a", "b")
    fails(ring, "a", LIMITED, 0.0, 10.0, model="large")
    assert {ring.take("large", 1.0).id for _ in range(3)} == {"b"}
    assert {ring.take("small", 1.0).id for _ in range(3)} == {"a", "b"}


def test_with_no_key_ready_it_says_when_the_first_will_be() -> None:
    ring = ring_of("a", "b")
    fails(ring, "a", REFUSED, 0.0)
    assert ring.ready_at("m") == 0.0
    fails(ring, "b", LIMITED, 0.0, 7.0)
    assert ring.ready_at("m") == 7.0 and ring.take("m", 1.0).id == "b"


def test_a_key_that_was_set_aside_is_tried_by_one_request_at_a_time() -> None:
    ring = ring_of("a", "b")
    fails(ring, "a", SPENT, 0.0)
    assert [ring.take("m", 60.0).id for _ in range(4)] == ["a", "b", "b", "b"]
    assert ring.take("m", 119.0).id == "b"
    assert ring.take("m", 120.0).id == "a", "a probe whose end nobody told is repeated"


def test_a_sole_key_that_was_set_aside_is_ready_for_one_request_at_a_time() -> None:
    ring = ring_of("a")
    fails(ring, None, REFUSED, 0.0)
    assert ring.ready_at("m") == 60.0
    ring.take("m", 60.0)
    assert ring.ready_at("m") == 120.0


def test_a_sole_key_needs_no_choice_while_nothing_is_known_against_it() -> None:
    ring = ring_of("a")
    assert ring.sole is not None
    fails(ring, None, LIMITED, 0.0)
    assert ring.sole is None
    ring.succeeded(ring.take("m", 9.0), "m", 9.0)
    assert ring.sole is not None
    assert ring_of("a", "b").sole is None


def test_models_whose_names_clients_make_up_do_not_fill_the_memory() -> None:
    ring = ring_of("a")
    fails(ring, None, REFUSED, 0.0)
    for number in range(5000):
        fails(ring, None, LIMITED, 1.0, model=f"m{number}")
    key = ring.take("m", 1.0)
    assert len(key.rests) <= 1001


# --- what is told -------------------------------------------------------------------------------------------------------
@pytest.fixture
def logged() -> Iterator[list[dict[str, object]]]:
    with capture_logs() as lines:
        yield lines


def test_an_operator_is_told_once_that_a_key_was_set_aside_and_once_that_it_is_back(logged: list[dict[str, object]]) -> None:
    ring = ring_of("a", "b")
    fails(ring, "a", SPENT, 0.0)
    fails(ring, "a", SPENT, 60.0)
    ring.succeeded(ring.take("m", 400.0), "m", 400.0)  # b's turn or a's
    ring.succeeded(ring.take("m", 400.0), "m", 400.0)
    told = [(line["event"], line["provider"], line["key"], line["log_level"]) for line in logged]
    assert told == [("provider_key_set_aside", "lab", "a", "warning"), ("provider_key_back", "lab", "a", "warning")]
    assert "sk-a" not in repr(logged)


def test_a_rate_limit_is_no_news(logged: list[dict[str, object]]) -> None:
    ring = ring_of("a")
    fails(ring, None, LIMITED, 0.0)
    ring.succeeded(ring.take("m", 9.0), "m", 9.0)
    assert logged == []


# --- over sockets -------------------------------------------------------------------------------------------------------
KIND = PROVIDER_KINDS["openai-compatible"]


class Provider:
    """A backend over real sockets, its keys' texts by their short names, and what the upstream saw."""

    def __init__(self, upstream: Upstream, client: PooledClient, *keys: str) -> None:
        chosen = Chosen(name="lab", base_url=upstream.base_url)
        origin, base_path = address_of(KIND, chosen)
        self.upstream = upstream
        self.spec = ProviderSpec(
            name="lab",
            origin=origin,
            base_path=base_path,
            keys=tuple(ApiKey(key, headers_of(KIND, msgspec.structs.replace(chosen, key=f"sk-{key}"), False)) for key in keys),
            clocks=Clocks(),
            unary_clocks=Clocks(),
            routes=routes_of(KIND, chosen),
            dialect_paths=native_dialects(KIND, chosen),
        )
        self.backend = HttpBackend(self.spec, client)

    async def ask(self, model: str = "m", stream: bool = False) -> AttemptError | None:
        """One attempt, as the pipeline makes it; gives what it failed with."""
        marks = Marks(monotonic())
        try:
            exchange = await self.backend.open(call_of(model, stream), model, marks, "nothing")
            while await exchange.next():
                pass
        except AttemptError as error:
            self.backend.failed(model, marks, error)
            return error
        return None

    @property
    def journal(self) -> list[str]:
        return [seen.head["authorization"].removeprefix("Bearer sk-") for seen in self.upstream.journal]


def call_of(model: str, stream: bool) -> Call:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": stream}).encode()
    return Call(
        request_id="req_test",
        dialect="openai_chat",
        model=model,
        stream=stream,
        include_usage=False,
        choices=1,
        body=body,
        fields=msgspec.json.decode(body, type=dict[str, msgspec.Raw]),
    )


def by_key(**plays):
    """What the upstream plays for each key; good for the others."""

    async def play(x: Exchange) -> None:
        await plays.get(x.seen.head["authorization"].removeprefix("Bearer sk-"), good)(x)

    return play


async def limited_in_band(x: Exchange) -> None:
    await x.start_stream()
    await x.event(chunk({"role": "assistant", "content": ""}))
    await x.event({"error": {"message": "CANARY", "type": "requests", "code": "rate_limit_exceeded"}})
    await x.end_stream()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = await Upstream().start()
    yield upstream
    await upstream.stop()


@pytest.fixture
async def client() -> AsyncIterator[PooledClient]:
    client = PooledClient()
    yield client
    await client.aclose()


async def test_requests_take_the_keys_in_turn(upstream: Upstream, client: PooledClient) -> None:
    provider = Provider(upstream, client, "a", "b")
    for number in range(4):
        assert await provider.ask(stream=number % 2 == 0) is None
    assert provider.journal == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("play", "cls"),
    [
        (status(429, retry_after="60"), e.RateLimited),
        (status(429), e.RateLimited),
        (status(429, b'{"error":{"code":"insufficient_quota","message":"CANARY"}}'), e.QuotaExhausted),
        (status(402), e.QuotaExhausted),
        (status(401), e.UpstreamAuthFailed),
        (status(403), e.UpstreamAuthFailed),
        (limited_in_band, e.RateLimited),
    ],
    ids=["429 and when", "429", "quota", "402", "401", "403", "in a stream"],
)
async def test_a_key_that_is_refused_rests_while_the_other_goes_on(upstream: Upstream, client: PooledClient, play, cls: type[AttemptError]) -> None:
    provider = Provider(upstream, client, "a", "b")
    upstream.plays["m"] = by_key(a=play)
    assert type(await provider.ask(stream=True)) is cls
    assert provider.backend.ready_at("m", monotonic()) <= monotonic(), "the same target may be tried at once"
    for _ in range(3):
        assert await provider.ask(stream=True) is None
    assert provider.journal == ["a", "b", "b", "b"]


async def test_one_limited_and_one_refused_key_leave_nobody_until_the_limit_ends(upstream: Upstream, client: PooledClient) -> None:
    provider = Provider(upstream, client, "a", "b")
    upstream.plays["m"] = by_key(a=status(429, retry_after="7"), b=status(401))
    began = monotonic()
    assert [type(await provider.ask()) for _ in range(2)] == [e.RateLimited, e.UpstreamAuthFailed]
    assert began + 7 <= provider.backend.ready_at("m", began) <= monotonic() + 7
    assert provider.journal == ["a", "b"]


@pytest.mark.parametrize(("code", "least_s"), [(401, 60), (402, 60), (429, 5)])
async def test_a_sole_key_that_is_refused_leaves_nobody(upstream: Upstream, client: PooledClient, code: int, least_s: float) -> None:
    provider = Provider(upstream, client, "a")
    assert provider.backend.ready_at("m", monotonic()) <= monotonic()
    upstream.plays["m"] = status(code)
    began = monotonic()
    await provider.ask()
    assert began + least_s <= provider.backend.ready_at("m", began) <= monotonic() + least_s


async def test_a_sole_key_that_is_let_in_again_is_well(upstream: Upstream, client: PooledClient) -> None:
    provider = Provider(upstream, client, "a")
    upstream.plays["m"] = [status(429, retry_after="0"), good]
    await provider.ask()
    assert await provider.ask() is None
    assert provider.backend.ready_at("m", monotonic()) == 0.0


async def test_no_key_is_shown_by_an_error_or_a_repr(upstream: Upstream, client: PooledClient) -> None:
    provider = Provider(upstream, client, "a", "b")
    upstream.plays["m"] = status(401, b'{"error":{"message":"Incorrect API key provided: sk-a","code":"invalid_api_key"}}')
    error = await provider.ask()
    assert error is not None
    key = Key(provider.spec.keys[0])
    key.headers = provider.spec.keys[0].headers
    shown = [error, error.message, vars(error), provider.spec, provider.backend, key, Chosen(name="lab", key="sk-a")]
    assert "sk-a" not in " ".join(repr(each) for each in shown)
