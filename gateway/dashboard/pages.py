"""`/dashboard`: the files of dashboard/ and of what npm installed there, as they are. They hold nothing of anybody; figures come by the API."""

import gzip
import json
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from fastapi import FastAPI, Request, Response

from contract.errors import NotFound

FOLDER = Path(__file__).parents[2] / "dashboard"
NPM = {
    "preact.mjs": "preact/dist/preact.mjs",
    "htm.mjs": "htm/dist/htm.mjs",
    "uPlot.esm.js": "uplot/dist/uPlot.esm.js",
    "uPlot.min.css": "uplot/dist/uPlot.min.css",
}
KINDS = {".mjs": "text/javascript", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


def add_dashboard(app: FastAPI, api: str, sign_in: bool, folder: Path = FOLDER) -> None:
    """Adds the routes, for a thread of their own. `api`: below which path the figures are; `sign_in`: whether people can sign in at /auth/login."""
    about = json.dumps({"api": api, "sign_in": sign_in}).encode()

    @app.get("/dashboard", include_in_schema=False)
    def page(request: Request) -> Response:
        """The page; where npm was not asked yet, one that says what to do."""
        whole = all((folder / "node_modules" / name).is_file() for name in NPM.values())
        return _file(request, folder / "pages" / ("index.html" if whole else "install.html"))

    @app.get("/dashboard/about.json", include_in_schema=False)
    async def get_about() -> Response:
        return Response(about, media_type="application/json", headers=HEADERS)

    @app.get("/dashboard/npm/{name}", include_in_schema=False)
    def installed(request: Request, name: str) -> Response:
        if name not in NPM:
            raise _nothing()
        return _file(request, folder / "node_modules" / NPM[name])

    @app.get("/dashboard/{name}", include_in_schema=False)
    def ours(request: Request, name: str) -> Response:
        path = folder / "pages" / name
        if path.parent != folder / "pages" or path.suffix not in KINDS:
            raise _nothing()
        return _file(request, path)


def _nothing() -> NotFound:
    return NotFound("there is no such page; begin at /dashboard")


def _file(request: Request, path: Path) -> Response:
    """The file, compressed for who takes that; nothing new for who has it. Raises NotFound."""
    try:
        at = path.stat()
    except OSError as exc:
        raise _nothing() from exc
    data, tag = _read(path, at.st_mtime_ns, at.st_size)
    headers = {**HEADERS, "etag": tag, "vary": "accept-encoding"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
    else:
        data = gzip.decompress(data)
    return Response(data, 200, headers, KINDS[path.suffix])


@lru_cache(maxsize=100)
def _read(path: Path, _changed_ns: int, _size: int) -> tuple[bytes, str]:
    """Compressed, and a tag of what it holds."""
    data = path.read_bytes()
    return gzip.compress(data, mtime=0), f'"{sha256(data).hexdigest()[:20]}"'
