"""Amazon's Signature Version 4 as a pure function (docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html)."""

from datetime import datetime
from hashlib import sha256
from hmac import new as hmac
from urllib.parse import quote

import msgspec

ALGORITHM = "AWS4-HMAC-SHA256"


class Credentials(msgspec.Struct, frozen=True):
    """An access key; `session_token` for temporary ones."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return f"Credentials({self.access_key_id!r})"


class Scope(msgspec.Struct, frozen=True):
    """What a signature holds for."""

    region: str
    service: str


class Request(msgspec.Struct, frozen=True):
    """What is signed. `path` as it is sent, percent-encoded; `headers` those to be signed beside host and date, names in lower case.

    `body_sha256`: in hexadecimal, of a body that is not at hand; "": it is `body`.
    """

    method: str
    host: str
    path: str
    query: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    body_sha256: str = ""


def sign(request: Request, credentials: Credentials, scope: Scope, now: datetime) -> list[tuple[bytes, bytes]]:
    """The headers to add: `x-amz-date`, `x-amz-security-token` for temporary credentials, and `authorization`. `now` is in UTC."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    added = [(b"x-amz-date", stamp.encode())]
    if credentials.session_token is not None:
        added.append((b"x-amz-security-token", credentials.session_token.encode()))
    signed = sorted([(b"host", request.host.encode()), *request.headers, *added])
    names = b";".join(name for name, _ in signed)
    canonical = b"\n".join(
        [
            request.method.encode(),
            (request.path if scope.service == "s3" else quote(request.path or "/", safe="/-_.~")).encode(),  # elsewhere encoded once more
            _query(request.query).encode(),
            *(name + b":" + b" ".join(value.split()) for name, value in signed),
            b"",
            names,
            (request.body_sha256 or sha256(request.body).hexdigest()).encode(),
        ]
    )
    day = f"{stamp[:8]}/{scope.region}/{scope.service}/aws4_request"
    text = f"{ALGORITHM}\n{stamp}\n{day}\n{sha256(canonical).hexdigest()}"
    signature = hmac(_key(credentials, scope, stamp[:8]), text.encode(), sha256).hexdigest()
    value = f"{ALGORITHM} Credential={credentials.access_key_id}/{day}, SignedHeaders={names.decode()}, Signature={signature}"
    return [*added, (b"authorization", value.encode())]


def _query(query: str) -> str:
    """The pairs by name, then by value; each with its `=`."""
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&")) if query else []
    return "&".join(f"{name}={value}" for name, value in pairs)


def _key(credentials: Credentials, scope: Scope, day: str) -> bytes:
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in (day, scope.region, scope.service, "aws4_request"):
        key = hmac(key, part.encode(), sha256).digest()
    return key
