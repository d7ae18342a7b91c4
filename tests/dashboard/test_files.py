"""The files of the dashboard over HTTP: what they carry, what is not there, and what is said where npm installed nothing."""

from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from gateway.dashboard.pages import FOLDER, HEADERS, NPM, add_dashboard
from tests.gateway.conftest import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")
FILES = ["/dashboard", "/dashboard/about.json", *(f"/dashboard/{path.name}" for path in sorted((FOLDER / "pages").iterdir()))]
FILES += [f"/dashboard/npm/{name}" for name in NPM]


@pytest.mark.parametrize("path", FILES)
async def test_every_file_comes_with_the_strict_policy(gateway: Gateway, path: str) -> None:
    assert gateway.runtime.admin is not None
    for url in (gateway.url, gateway.runtime.admin.url):
        answer = await gateway.http.get(url + path)
        assert answer.status_code == 200 and len(answer.content) > 10
        assert {name: answer.headers.get_list(name) for name in HEADERS} == {name: [value] for name, value in HEADERS.items()}
        assert "unsafe" not in answer.headers["content-security-policy"]


async def test_what_a_browser_has_is_not_sent_again(gateway: Gateway) -> None:
    first = await gateway.http.get("/dashboard/app.mjs")
    again = await gateway.http.get("/dashboard/app.mjs", headers={"if-none-match": first.headers["etag"]})
    assert (first.headers["content-encoding"], again.status_code, again.content) == ("gzip", 304, b"")
    plain = await gateway.http.get("/dashboard/app.mjs", headers={"accept-encoding": "identity"})
    assert plain.content == first.content == (FOLDER / "pages" / "app.mjs").read_bytes()


@pytest.mark.parametrize("name", ["nothing.mjs", "..%2fpackage.json", "%2e%2e", "package.json", "npm/axe.min.js", "npm/..%2f..%2fpackage.json"])
async def test_nothing_else_is_there(gateway: Gateway, name: str) -> None:
    answer = await gateway.http.get(f"/dashboard/{name}")
    assert answer.status_code == 404 and "there is no" in answer.json()["error"]["message"]


async def test_without_npm_the_page_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "pages").symlink_to(FOLDER / "pages")
    app = FastAPI()
    add_dashboard(app, "/v1", sign_in=False, folder=tmp_path)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://gateway") as client:
        page = await client.get("/dashboard")
        assert page.status_code == 200 and "make dashboard" in page.text and "<script" not in page.text
        assert page.headers["content-security-policy"] == HEADERS["content-security-policy"]
