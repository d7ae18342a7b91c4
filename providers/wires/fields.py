"""Reading a JSON object field by field: each typed and by its path, and the rest kept as it came."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from msgspec import Raw

from contract.errors import InvalidRequest

NULL = Raw(b"null")
_AT = re.compile(r" - at `\$(.*)`$")
_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
}


@cache
def _decoder(kind: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(kind)


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read(raw: Raw, kind: Any, path: str) -> Any:
    """A value of that type. Raises InvalidRequest with its path, and the path within it, as `param`."""
    try:
        return raw if kind is Raw else _decoder(kind).decode(raw)
    except UNREADABLE as exc:
        raise _wrong(exc, path) from exc


def _wrong(exc: Exception, path: str) -> InvalidRequest:
    if not isinstance(exc, msgspec.ValidationError):
        return InvalidRequest("the body is not valid JSON", param=path or None)
    within = _AT.search(str(exc))
    at = (path + within[1].replace("[...]", "") if within else path).lstrip(".")
    wanted = re.search(r"Expected `([a-z]+)", str(exc))
    words = _WORDS.get(wanted[1], wanted[1]) if wanted else "of another type"
    return InvalidRequest(f"`{at}` must be {words}" if at else f"the body must be {words}", param=at or None)


class Fields:
    """The members of one JSON object; each is taken once, what is left is the `rest`."""

    __slots__ = ("_members", "_path")

    def __init__(self, raw: Raw, path: str) -> None:
        self._path = path
        self._members: dict[str, Raw] = read(raw, dict[str, Raw], path)

    def take(self, name: str, kind: Any) -> Any:
        """The member, or None when it is absent or null. Raises InvalidRequest."""
        raw = self._members.pop(name, None)
        if raw is None or raw == NULL:
            return None
        if kind is Raw:
            return raw
        try:
            return _decoder(kind).decode(raw)
        except UNREADABLE as exc:
            raise _wrong(exc, self._at(name)) from exc

    def need(self, name: str, kind: Any) -> Any:
        """The member, which must be there and not null. Raises InvalidRequest."""
        value = self.take(name, kind)
        if value is None:
            raise InvalidRequest(f"`{self._at(name)}` is missing", param=self._at(name))
        return value

    def has_any(self, names: frozenset[str]) -> bool:
        """Whether one of those members is there and was not taken."""
        return not names.isdisjoint(self._members)

    def put_back(self, name: str, raw: Raw) -> None:
        """Keeps a member that was taken but is not of a kind we know."""
        self._members[name] = raw

    def keep(self, name: str, inner: "Fields") -> None:
        """Keeps what nobody took of the object that was under that name."""
        if rest := inner.rest():
            self._members[name] = Raw(msgspec.json.encode(rest))

    def rest(self) -> dict[str, Raw]:
        """What nobody took, as it came."""
        return self._members.copy() if self._members else {}

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name


def with_extra(encoded: dict[str, Any], extra: dict[str, Raw]) -> dict[str, Any]:
    """An object with what was kept of it; under the name of an object within it, that one's own rest."""
    for name, raw in extra.items():
        within = encoded.get(name)
        encoded[name] = with_extra(within, read(raw, dict[str, Raw], name)) if isinstance(within, dict) else raw
    return encoded


def items_of(raw: Raw | None, path: str) -> Iterator[tuple[Raw, str]]:
    """The elements of an array with their paths; none of an absent one. Raises InvalidRequest."""
    if raw is not None:
        array: list[Raw] = read(raw, list[Raw], path)
        for index, item in enumerate(array):
            yield item, f"{path}[{index}]"
