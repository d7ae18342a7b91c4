"""Who is asking: keys to principals, found by hash. Fails closed; unknown, revoked and expired keys look alike."""

import time
from collections.abc import Iterable, Mapping
from hashlib import sha256

import msgspec

from contract.errors import AuthenticationFailed, ModelNotFound
from contract.flow import NOBODY, Flow
from policy.quota import Scope
from policy.rule import Rule

Headers = Iterable[tuple[bytes, bytes]]


class Principal(msgspec.Struct, frozen=True):
    """A team as one of its keys stands for it. `models` None: every model. `rule` None: each model's own policy.

    `overrides`: what its requests may say of their own policy (gateway/overrides.py). `scopes`: where its requests count, from the
    organisation to the key; empty: nothing limits them. `max_tokens`, `max_nusd`: of one request. `expires_at`: Unix seconds.
    """

    team: str
    key_id: str
    models: frozenset[str] | None = None
    rule: Rule | None = None
    overrides: frozenset[str] = frozenset()
    organisation: str = ""
    scopes: tuple[Scope, ...] = ()
    max_tokens: int | None = None
    max_nusd: int | None = None
    flow: Flow = NOBODY
    expires_at: float | None = None

    def require_route(self, route: str, model: str) -> None:
        """Raises ModelNotFound for a route that this team may not use: the same answer as for one that does not exist."""
        if self.models is not None and route not in self.models:
            raise no_such_model(model)


def no_such_model(model: str) -> ModelNotFound:
    """The one wording for a model that does not exist and for one that a key may not use."""
    name = model if len(model) <= 100 else model[:100] + "…"
    return ModelNotFound(f"there is no model {name!r} here; GET /v1/models lists those that this key may use", param="model")


def key_id_of(key: str) -> str:
    """What stands for a key in ledger and reports: the first 12 hex digits of its SHA-256."""
    return sha256(key.encode()).hexdigest()[:12]


class KeyTable:
    """Keys by their full SHA-256; the keys themselves are not kept. `one_team`: there is nobody else.

    Beside the keys that it begins with it has those that were made since: `set_made` changes them all at once.
    """

    def __init__(self, principals: Iterable[tuple[str, Principal]]) -> None:
        self._static = {sha256(key.encode()).digest(): principal for key, principal in principals}
        self.set_made({}, ())

    def set_made(self, made: Mapping[bytes, Principal], teams: Iterable[str]) -> None:
        """What was made, by SHA-256; it changes no more. `teams`: all that ever had a key, for what they left behind is still theirs."""
        self.one_team = len({principal.team for principal in self._static.values()} | set(teams)) <= 1
        self._made = made
        self._by_id: dict[str, tuple[Principal, ...]] | None = None  # until somebody asks

    def principal(self, headers: Headers) -> Principal:
        """Reads `authorization: Bearer KEY` or `x-api-key: KEY`. Raises AuthenticationFailed."""
        for name, value in headers:
            if name == b"authorization":
                if value[:7].lower() == b"bearer ":
                    return self._find(value[7:].strip())
            elif name == b"x-api-key":
                return self._find(value.strip())
        raise AuthenticationFailed("no API key was sent; send it as `Authorization: Bearer KEY`")

    def of_id(self, key_id: str) -> Principal | None:
        """Whom the key with this id stands for, if there is one that is valid."""
        now, by_id = time.time(), self._by_id
        if by_id is None:
            by_id = self._by_id = {}
            for principal in (*self._made.values(), *self._static.values()):
                by_id[principal.key_id] = (*by_id.get(principal.key_id, ()), principal)
        return next((each for each in by_id.get(key_id, ()) if each.expires_at is None or now < each.expires_at), None)

    def _find(self, key: bytes) -> Principal:
        digest = sha256(key).digest()
        principal = self._static.get(digest) or self._made.get(digest)
        if principal is None or (principal.expires_at is not None and time.time() >= principal.expires_at):
            raise AuthenticationFailed("the API key is not valid")
        return principal
