"""A provider's API keys: which one the next request takes, which ones rest, until when and what for.

A limited key (429) rests for the one model that it was limited for; one that is spent (no quota) or not accepted is set aside for every
model, and tried again now and then by one request. A 403 may be about one model alone, so it sets the key aside for that model.
Times are time.monotonic() seconds. A key's text is in its headers and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import structlog

from contract.errors import AttemptError, QuotaExhausted, RateLimited, UpstreamAuthFailed
from providers.http.port import Endpoint

HeaderTuple = tuple[tuple[bytes, bytes], ...]

MAX_COOL_S = 300.0  # longest that a provider's retry-after keeps a key away
LIMITED_S, MAX_LIMITED_S = 5.0, 60.0  # a 429 that names no time: doubles
ASIDE_S, MAX_ASIDE_S = 60.0, 600.0  # until a key that was set aside is tried again: doubles
MAX_RESTS = 1000  # of one key; models may have names that clients make up
FORBIDDEN = 403

log = structlog.get_logger("turnout.keys")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """`headers`: those of every request that is made with it. `id`: what stands for it in logs."""

    id: str
    headers: HeaderTuple = field(repr=False)


class _Rest(msgspec.Struct):
    """A key is not used from `since` to `until`. `step_s`: its length where the provider names none. `aside`: it is not for a limit's sake."""

    since: float
    until: float
    step_s: float
    aside: bool


class Key:
    """One key. `rests`: what is known against it, by model; None: for every model. `endpoints`: what its requests are sent with, kept by its user."""

    __slots__ = ("endpoints", "headers", "id", "rests")

    def __init__(self, key: ApiKey) -> None:
        self.id = key.id
        self.headers = key.headers
        self.endpoints: dict[tuple[str, HeaderTuple, bytes], Endpoint] = {}
        self.rests: dict[str | None, _Rest] = {}

    def __repr__(self) -> str:
        return f"Key({self.id!r})"

    def ready_at(self, model: str) -> float:
        """When it may be used for that model; in the past: at once."""
        rests = self.rests
        return max((rest.until for scope in (None, model) if (rest := rests.get(scope)) is not None), default=0.0) if rests else 0.0


class KeyRing:
    """`sole`: the key to use, while there is only one and nothing is known against it; None: ask `take`."""

    def __init__(self, provider: str, keys: Sequence[ApiKey]) -> None:
        self._provider = provider
        self._keys = [Key(key) for key in keys]  # the least recently used first
        self.sole: Key | None = None
        self._look()

    def ready_at(self, model: str) -> float:
        """When the first of the keys may be used for that model; in the past: at once."""
        for key in self._keys:
            if not key.rests:
                return 0.0
        return min(key.ready_at(model) for key in self._keys)

    def take(self, model: str, now: float) -> Key:
        """The key for a request that begins now: of those that are ready the least recently used; with none ready, the soonest.

        One that was set aside is tried by this request alone: for the others it goes on resting.
        """
        keys = self._keys
        index = next((index for index, key in enumerate(keys) if not key.rests or key.ready_at(model) <= now), None)
        if index is None:
            return min(keys, key=lambda key: key.ready_at(model))
        key = keys.pop(index)
        keys.append(key)
        if key.rests:
            for scope in (None, model):
                if (rest := key.rests.get(scope)) is not None and rest.aside:
                    rest.until = now + ASIDE_S
        return key

    def succeeded(self, key: Key, model: str, began: float) -> None:
        """A request that began then was let in: the key is well again, unless it was found not to be since."""
        for scope in (None, model):
            if (rest := key.rests.get(scope)) is not None and began >= rest.since:
                del key.rests[scope]
                if rest.aside:
                    log.warning("provider_key_back", provider=self._provider, key=key.id, model=scope)
        self._look()

    def failed(self, key_id: str | None, model: str, error: AttemptError, began: float, now: float) -> None:
        """A request that began then, with that key (None: the only one), ended in `error`. What is not about a key is passed over."""
        if not isinstance(error, RateLimited | UpstreamAuthFailed) or (key_id is None and len(self._keys) > 1):
            return
        key = next((key for key in self._keys if key.id == key_id), self._keys[0])
        aside = isinstance(error, QuotaExhausted | UpstreamAuthFailed)
        # a sole key rests for the model alone: to set it aside is to set the provider aside, and one model's refusal is no proof of that
        scope = None if aside and error.upstream_status != FORBIDDEN and len(self._keys) > 1 else model
        asked_s = None if error.retry_after_s is None else min(error.retry_after_s, MAX_COOL_S)
        rest = key.rests.get(scope)
        if rest is not None and began < rest.since:  # it was under way when another one was refused: no new refusal
            rest.until = max(rest.until, now + (asked_s or 0.0))
            return
        if len(key.rests) >= MAX_RESTS:
            key.rests = {None: known} if (known := key.rests.get(None)) is not None else {}
        key.rests[scope] = _rest(rest, aside, asked_s, now)
        self._look()
        if aside and not (rest is not None and rest.aside):
            log.warning("provider_key_set_aside", provider=self._provider, key=key.id, model=scope, reason=error.reason, status=error.upstream_status)

    def _look(self) -> None:
        only = self._keys[0]
        self.sole = only if len(self._keys) == 1 and not only.rests else None


def _rest(before: _Rest | None, aside: bool, asked_s: float | None, now: float) -> _Rest:
    """`before`: how long it rested last, in vain. `asked_s`: how long the provider wants it to; a spent key rests for its own time at least."""
    first_s, most_s = (ASIDE_S, MAX_ASIDE_S) if aside else (LIMITED_S, MAX_LIMITED_S)
    step_s = first_s if before is None else min(most_s, max(first_s, before.step_s * 2))
    wait_s = step_s if asked_s is None else max(asked_s, step_s) if aside else asked_s
    return _Rest(now, now + wait_s, step_s, aside)
