"""A row of the registry and a provider's own settings to an address: where requests go, and the headers that all of them carry."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from contract.call import Dialect
from providers.http.port import Origin
from providers.registry import DIALECT_PATHS, ProviderKind, WireName

HeaderTuple = tuple[tuple[bytes, bytes], ...]
USER_AGENT = b"turnout"


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says beyond the row: None, or empty: the row's own."""

    name: str
    base_url: str | None = None
    key: str = ""
    region: str = ""
    project: str = ""
    api_version: str = ""
    wire: WireName | None = None
    dialects: tuple[Dialect, ...] | None = None
    headers: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"Chosen({self.name!r})"  # without the key


def native_dialects(kind: ProviderKind, chosen: Chosen) -> dict[Dialect, str]:
    """The dialects that pass as bytes, each with its path."""
    if chosen.dialects is None:
        return dict(kind.native)
    return {dialect: kind.native.get(dialect, DIALECT_PATHS[dialect]) for dialect in chosen.dialects}


def base_url_of(kind: ProviderKind, chosen: Chosen) -> str:
    """The base URL with its places filled in."""
    url = chosen.base_url or kind.base_url or ""
    for place, value in (("{region}", chosen.region), ("{project}", chosen.project)):
        url = url.replace(place, value)
    return url.replace("https://global-aiplatform", "https://aiplatform")  # Vertex's global location has no prefix


def missing(kind: ProviderKind, chosen: Chosen) -> list[str]:
    """The settings that the row's URL or paths need and the configuration does not give."""
    url = chosen.base_url or kind.base_url or ""
    templates = [url, *native_dialects(kind, chosen).values(), *kind.passes.values()]
    given = {"region": chosen.region, "project": chosen.project, "api_version": chosen.api_version}
    return [name for name, value in given.items() if not value and any(f"{{{name}}}" in template for template in templates)]


def page_address(url: str) -> tuple[Origin, str]:
    """Where one page is: its origin, and its path with its query."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    return Origin(parts.hostname or "", parts.port or (443 if tls else 80), tls), (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def address_of(kind: ProviderKind, chosen: Chosen) -> tuple[Origin, str]:
    """Where requests go: the origin, and the path before each route's own."""
    url = urlsplit(base_url_of(kind, chosen))
    tls = url.scheme == "https"
    return Origin(url.hostname or "", url.port or (443 if tls else 80), tls), url.path.rstrip("/")


def headers_of(kind: ProviderKind, chosen: Chosen, signed: bool) -> HeaderTuple:
    """The headers that every request to the provider carries, its key among them unless each request is signed."""
    headers = {b"user-agent": USER_AGENT, **dict(kind.headers)}
    if chosen.key and not signed:
        name, value = auth_header(kind, chosen.key)
        headers[name] = value
    headers |= {name.lower().encode(): text.encode() for name, text in chosen.headers.items()}
    return tuple(headers.items())


def auth_header(kind: ProviderKind, key: str) -> tuple[bytes, bytes]:
    """How the provider wants its key. Amazon and Google take a bearer token where no credentials sign."""
    if kind.auth in ("bearer", "aws", "google"):
        return b"authorization", b"Bearer " + key.encode()
    return kind.auth.encode(), key.encode()
