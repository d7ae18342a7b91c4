"""The admin API as it is served: every route for everybody who may come, what it writes, and what no answer of it holds.

The table must name every route there is: a new one that nobody classified fails the first test.
"""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from starlette.routing import Route
from structlog.testing import capture_logs

from gateway.admin.api import create_admin_app
from gateway.admin.edge import ALWAYS, MAX_BODY_BYTES
from gateway.admin.gate import Gate
from gateway.admin.reports import View
from gateway.replay.jobs import Jobs
from ledger.reports import REPORTS
from tests.gateway.conftest import NO_TLS, Gateway, running
from tests.gateway.oidc_admin import ADMIN_KEY, Browser, OidcServer, oidc_server
from tests.gateway.oidc_server import CLIENT, CLIENT_SECRET

pytestmark = pytest.mark.asyncio(loop_scope="module")
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "http://127.0.0.1:9/v1", api_key: sk-upstream-canary, headers: {{x-tenant: header-canary}}}}
models:
  solo: {{targets: [{{provider: one, model: m1, price: free}}]}}
  other: {{targets: [{{provider: one, model: m1, price: free}}]}}
teams:
  search: {{keys: [sk-search-canary], models: [solo], organisation: acme, limits: {{rpm: 60}}, budget: {{usd: 5, window: day}}}}
  ads: {{}}
organisations: {{acme: {{limits: {{concurrency: 9}}}}}}
admin:
  port: 0
  key: {key}
  oidc:
    issuer: "{issuer}"
    client_id: {client}
    client_secret: "{secret}"
    admins: [gateway-admins]
    viewers: [gateway-viewers]
    team_owners: {{search-leads: [search], ads-leads: [ads]}}
"""
GROUPS = {"viewer": ["gateway-viewers"], "other": ["ads-leads"], "owner": ["search-leads"], "admin": ["gateway-admins"], "cook": ["cooks"]}
NEW = {"team": "search", "name": "ci"}

# route -> what a caller gets: no key, a gateway's key, a person without a role, a viewer, an owner of another team, an owner, an admin
CALLERS = ("nobody", "gateway key", "cook", "viewer", "other", "owner", "admin", "admin key")
READ = (401, 401, 403, 200, 404, 200, 200, 200)
TABLE = {
    "GET /auth/session": (401, 401, 403, 200, 200, 200, 200, 200),
    "POST /auth/logout": (401, 401, 403, 200, 200, 200, 200, 200),
    "GET /admin/teams": (401, 401, 403, 200, 200, 200, 200, 200),
    "GET /admin/keys": (401, 401, 403, 200, 200, 200, 200, 200),
    "GET /admin/keys?team=search": READ,
    "GET /admin/teams/{team}": READ,
    "GET /admin/teams/{team}/usage": READ,
    "GET /admin/keys/{key_id}": READ,
    "GET /admin/keys/{key_id}/usage": READ,
    "GET /admin/config": (401, 401, 403, 200, 403, 403, 200, 200),
    "POST /admin/keys": (401, 401, 403, 403, 404, 201, 201, 201),
    "POST /admin/keys/{key_id}/rotate": (401, 401, 403, 403, 404, 200, 200, 200),
    "DELETE /admin/keys/{key_id}": (401, 401, 403, 403, 404, 200, 200, 200),
}
ALL = (401, 401, 403, 200, 403, 403, 200, 200)
OWN = (401, 401, 403, 200, 200, 200, 200, 200)  # each their own teams'
SHOWN = ("requests", "targets", "routing", "budgets", *(f"reports/{name}" for name in (*REPORTS, "breakeven")))
TABLE |= {f"GET /admin/{name}": OWN for name in SHOWN} | {f"GET /admin/{name}?team=search": READ for name in SHOWN}
TABLE |= {"GET /admin/requests/{request_id}": READ, "GET /admin/decisions/{request_id}": READ, "GET /admin/reports/engines": ALL}
TABLE |= {"GET /admin/explain?model=solo&team=search": READ, "GET /admin/explain?model=other&team=search": (401, 401, 403, 404, 404, 404, 404, 404)}
TABLE |= {"GET /admin/reports/batches": OWN, "GET /admin/reports/batches?team=search": READ, "GET /admin/reports/batches/{batch_id}": READ}
TABLE |= {"POST /admin/batches/{batch_id}/cancel": (401, 401, 403, 403, 404, 200, 200, 200), "GET /admin/replay/{replay_id}?team=search": READ}
TABLE |= {"POST /admin/replay": (401, 401, 403, 400, 404, 400, 400, 400)}  # of no policy
# How somebody becomes a caller, and pages that hold nothing of anybody.
OPEN = {
    "GET /",
    "GET /auth/login",
    "GET /auth/callback",
    "GET /dashboard",
    "GET /dashboard/about.json",
    "GET /dashboard/npm/{name}",
    "GET /dashboard/{name}",
}
CASES = [(route, caller, status) for route, row in TABLE.items() for caller, status in zip(CALLERS, row, strict=True)]


class Admin:
    """The admin API of a running gateway, and everybody who asks it."""

    def __init__(self, gateway: Gateway, provider: OidcServer) -> None:
        assert gateway.runtime.admin is not None
        self.gateway = gateway
        self.request_id = self.batch_id = self.replay_id = ""  # of the team `search`
        self.url = gateway.runtime.admin.url
        self.http = httpx2.AsyncClient(base_url=self.url, timeout=60, trust_env=False, verify=NO_TLS)
        self.credentials = {name: provider.sign({"groups": groups}) for name, groups in GROUPS.items()}
        self.credentials |= {"gateway key": "sk-search-canary", "admin key": ADMIN_KEY}

    async def ask(self, method: str, path: str, caller: str = "admin key", **content: Any) -> httpx2.Response:
        credential = self.credentials.get(caller)
        headers = {"authorization": f"Bearer {credential}"} if credential else {}
        return await self.http.request(method, path, headers=headers | content.pop("headers", {}), **content)

    async def made(self, **fields: Any) -> dict[str, Any]:
        answer = await self.ask("POST", "/admin/keys", json={**NEW, **fields})
        assert answer.status_code == 201, answer.text
        key: dict[str, Any] = answer.json()
        return key

    async def models(self, secret: str) -> httpx2.Response:
        return await self.gateway.http.get("/v1/models", headers={"x-api-key": secret})


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcServer]:
    with oidc_server() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(provider: OidcServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Admin]:
    folder = tmp_path_factory.mktemp("admin")
    text = CONFIG.format(folder=folder, issuer=provider.issuer, client=CLIENT, secret=CLIENT_SECRET, key=ADMIN_KEY)
    async with running(text, folder) as gateway:
        admin = Admin(gateway, provider)
        body = {"model": "solo", "messages": [{"role": "user", "content": "Hi"}]}
        asked = await gateway.http.post("/v1/chat/completions", json=body, headers={"x-api-key": "sk-search-canary"})
        admin.request_id = asked.headers["x-request-id"]
        row = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": body}  # the batch fails: nobody listens at its target
        team = {"x-api-key": "sk-search-canary"}
        file = await gateway.http.post("/v1/files", files={"file": ("a.jsonl", json.dumps(row).encode())}, data={"purpose": "batch"}, headers=team)
        new = {"input_file_id": file.json()["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        admin.batch_id = (await gateway.http.post("/v1/batches", json=new, headers=team)).json()["id"]
        replay = {"policy": "models: {solo: {policy: fast}}\npolicies: {fast: {objective: fastest}}", "team": "search"}
        admin.replay_id = (await admin.ask("POST", "/admin/replay", json=replay)).json()["id"]
        yield admin
        await admin.http.aclose()


# --- who may --------------------------------------------------------------------------------------------------------------
async def test_every_route_is_in_the_table(admin: Admin) -> None:
    runtime = admin.gateway.runtime
    settings = runtime.key_watch.settings
    assert settings.admin is not None
    view = View(runtime.ledger, runtime.routes, runtime.rules)
    gate = Gate(settings.admin, runtime.clients[0], runtime.ledger.engine)
    app = create_admin_app(runtime.key_watch, gate, runtime.meter, view, Jobs(settings.state.database))
    found = {f"{method} {route.path}" for route in app.routes if isinstance(route, Route) for method in route.methods or () if method != "HEAD"}
    assert found == {route.partition("?")[0] for route in TABLE} | OPEN


@pytest.mark.parametrize(("route", "caller", "status"), CASES, ids=[f"{route}, {caller}" for route, caller, _ in CASES])
async def test_a_route_answers_who_may_and_nobody_else(admin: Admin, route: str, caller: str, status: int) -> None:
    key = await admin.made()
    method, path = route.replace("{key_id}", key["id"]).replace("{team}", "search").replace("{request_id}", admin.request_id).split(" ")
    path = path.replace("{batch_id}", admin.batch_id).replace("{replay_id}", admin.replay_id)
    bodies = {"/admin/keys": NEW, "/admin/replay": {"policy": "{}", "team": "search"}}
    answer = await admin.ask(method, path, caller, **({"json": bodies[path]} if method == "POST" and path in bodies else {}))
    assert answer.status_code == status, answer.text
    for name, value in ALWAYS:
        assert answer.headers.get_list(name.decode()) == [value.decode()]
    if status >= 400:
        error = answer.json()["error"]
        assert error["request_id"] == answer.headers["x-request-id"] and error["code"] and key["key"] not in answer.text
        assert (await admin.models(key["key"])).status_code == 200  # nothing happened to it


async def test_what_is_used_is_told_to_those_who_may_read_it(admin: Admin) -> None:
    body = {"model": "solo", "messages": [{"role": "user", "content": "Hi"}]}
    failed = await admin.gateway.http.post("/v1/chat/completions", json=body, headers={"x-api-key": "sk-search-canary"})
    assert failed.status_code == 502  # nobody listens there: its turn came back
    told = {caller: (await admin.ask("GET", "/admin/teams/search/usage", caller)).json()["data"] for caller in ("admin", "owner")}
    (team,) = told["owner"]
    assert [each["scope"] for each in told["admin"]] == [{"kind": "organisation", "name": "acme"}, {"kind": "team", "name": "search"}]
    assert (team["running"], team["requests"]["limit"], team["requests"]["remaining"], team["tokens"]) == (0, 60, 60, None)
    (budget,) = team["budgets"]
    assert (budget["window"], budget["usd"], budget["spent_usd"], budget["reserved_usd"]) == ("day", 5.0, 0.0, 0.0)


async def test_a_made_key_has_limits_of_its_own(admin: Admin) -> None:
    key = await admin.made(limits={"rpm": 1})
    body = {"model": "other", "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"x-api-key": key["key"]}
    assert (await admin.gateway.http.post("/v1/chat/completions", json=body, headers=headers)).status_code == 404  # not a model of its team
    body["model"] = "solo"
    answer = await admin.gateway.http.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.headers["x-ratelimit-limit-requests"] == "1"
    (usage,) = (await admin.ask("GET", f"/admin/keys/{key['id']}/usage")).json()["data"]
    assert usage["scope"] == {"kind": "key", "name": key["id"]} and (usage["running"], usage["requests"]["limit"]) == (0, 1)


@pytest.mark.parametrize("route", ["GET /admin/keys/{}", "POST /admin/keys/{}/rotate", "DELETE /admin/keys/{}"])
async def test_another_team_s_key_is_told_apart_from_none_by_nobody(admin: Admin, route: str) -> None:
    key = await admin.made()
    method, path = route.split(" ")
    errors = []
    for id in (key["id"], "key_0000000000000000"):
        answer = await admin.ask(method, path.format(id), "other")
        error = answer.json()["error"]
        errors.append((answer.status_code, error["code"], error["message"].replace(id, "ID"), error["param"]))
    assert errors[0] == errors[1]


async def test_a_list_holds_what_its_reader_may_see(admin: Admin) -> None:
    ours, theirs = await admin.made(), await admin.made(team="ads")
    for caller, seen in (("owner", {"search"}), ("other", {"ads"}), ("viewer", {"search", "ads"}), ("admin", {"search", "ads"})):
        keys = (await admin.ask("GET", "/admin/keys", caller)).json()["data"]
        teams = (await admin.ask("GET", "/admin/teams", caller)).json()["data"]
        assert {key["team"] for key in keys} == {each["team"] for each in teams} == seen
        assert {ours["id"], theirs["id"]} & {key["id"] for key in keys} == {key["id"] for key in (ours, theirs) if key["team"] in seen}


async def test_an_owner_cannot_make_a_key_of_another_team_nor_of_none(admin: Admin) -> None:
    answers = [await admin.ask("POST", "/admin/keys", "owner", json={"team": team}) for team in ("ads", "nowhere")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json()["error"]["message"].replace("ads", "nowhere") == answers[1].json()["error"]["message"]
    assert (await admin.ask("POST", "/admin/keys", json={"team": "nowhere"})).status_code == 404


# --- people ---------------------------------------------------------------------------------------------------------------
async def test_somebody_signs_in_makes_a_key_and_signs_out(admin: Admin) -> None:
    async with Browser() as browser:
        signed_in = await browser.sign_in(admin.url, "tom", "/admin/teams")
        assert str(signed_in.url) == f"{admin.url}/admin/teams" and [each["team"] for each in signed_in.json()["data"]] == ["search"]
        assert (await browser.post(f"{admin.url}/admin/keys", json=NEW)).json()["error"]["code"] == "csrf"
        token = (await browser.get(f"{admin.url}/auth/session")).json()["csrf_token"]
        made = await browser.post(f"{admin.url}/admin/keys", json=NEW, headers={"x-turnout-csrf": token})
        assert made.status_code == 201 and made.json()["made_by"] == "Tom (tom)"
        assert (await admin.models(made.json()["key"])).status_code == 200
        ended = await browser.post(f"{admin.url}/auth/logout", headers={"x-turnout-csrf": token})
        assert ended.status_code == 200 and (await browser.get(f"{admin.url}/admin/teams")).status_code == 401


async def test_a_cookie_helps_no_wrong_key(admin: Admin) -> None:
    async with Browser() as browser:
        await browser.sign_in(admin.url, "ada")
        assert (await browser.get(f"{admin.url}/admin/keys")).status_code == 200
        assert (await browser.get(f"{admin.url}/admin/keys", headers={"x-api-key": "sk-search-canary"})).status_code == 401


# --- what it does ---------------------------------------------------------------------------------------------------------
async def test_a_key_is_made_shown_once_rotated_and_revoked(admin: Admin) -> None:
    fields = {"models": ["solo"], "limits": {"rpm": 5}, "budget": {"usd": 2, "window": "day"}, "max_tokens_per_request": 9, "expires_in_s": 3600}
    made = await admin.made(**fields)
    first = made.pop("key")
    assert (await admin.ask("GET", f"/admin/keys/{made['id']}")).json() == made
    assert made["status"] == "valid" and made["last4"] == first[-4:] and made["made_by"] == "the admin key" and made["limits"]["rpm"] == 5
    assert (await admin.models(first)).status_code == 200
    rotated = await admin.ask("POST", f"/admin/keys/{made['id']}/rotate", json={"grace_s": 600})
    second = rotated.json()["key"]
    assert rotated.status_code == 200 and second != first and rotated.json()["id"] == made["id"]
    assert [(await admin.models(secret)).status_code for secret in (first, second)] == [200, 200]
    third = (await admin.ask("POST", f"/admin/keys/{made['id']}/rotate")).json()["key"]
    assert [(await admin.models(secret)).status_code for secret in (second, third)] == [401, 200]
    revoked = await admin.ask("DELETE", f"/admin/keys/{made['id']}")
    assert revoked.json()["status"] == "revoked" and "key" not in revoked.json()
    assert [(await admin.models(secret)).status_code for secret in (first, second, third)] == [401, 401, 401]
    assert (await admin.ask("DELETE", f"/admin/keys/{made['id']}")).json() == revoked.json()
    assert (await admin.ask("POST", f"/admin/keys/{made['id']}/rotate")).json()["error"]["code"] == "key_over"


async def test_each_write_is_logged_with_who_made_it_and_without_a_secret(admin: Admin) -> None:
    with capture_logs() as logged:
        made = (await admin.ask("POST", "/admin/keys", "owner", json=NEW)).json()
        rotated = (await admin.ask("POST", f"/admin/keys/{made['id']}/rotate", "admin")).json()
        await admin.ask("DELETE", f"/admin/keys/{made['id']}")
        await admin.ask("DELETE", f"/admin/keys/{made['id']}", "other")
    lines = [(line["event"], line["key_id"], line["by"], line["via"]) for line in logged if "key_id" in line]
    events = (("a key was made", "robot", "token"), ("a key was rotated", "robot", "token"), ("a key was revoked", "admin-key", "key"))
    assert lines == [(event, made["id"], by, via) for event, by, via in events]
    assert made["key"] not in str(logged) and rotated["key"] not in str(logged)


BAD = {
    "an unknown field": ({**NEW, "role": "admin"}, "role"),
    "routes of its own": ({**NEW, "allowed_routes": ["/*"]}, "allowed_routes"),
    "an id of its own": ({**NEW, "id": "key_1"}, "id"),
    "a secret of its own": ({**NEW, "key": "sk-turnout-mine"}, "key"),
    "no team": ({"name": "ci"}, "team"),
    "what its team may not use": ({**NEW, "models": ["other"]}, "models"),
    "a model that is not there": ({**NEW, "team": "ads", "models": ["gone"]}, "models"),
    "no model at all": ({**NEW, "models": []}, "models"),
    "a limit of nothing": ({**NEW, "limits": {"rpm": 0}}, "limits.rpm"),
    "a window that is none": ({**NEW, "budget": {"usd": 1, "window": "year"}}, "budget.window"),
    "a past": ({**NEW, "expires_in_s": -1}, "expires_in_s"),
    "a name of two lines": ({**NEW, "name": "a\nb"}, "name"),
    "a long name": ({**NEW, "name": "a" * 201}, "name"),
    "a list": ([NEW], None),
    "no JSON": (b"{team: search", None),
    "no text": (b"\xff\xfe", None),
}


@pytest.mark.parametrize(("body", "param"), BAD.values(), ids=BAD)
async def test_what_a_key_cannot_have_is_refused_at_its_field(admin: Admin, body: Any, param: str | None) -> None:
    before = len((await admin.ask("GET", "/admin/keys")).json()["data"])
    answer = await admin.ask("POST", "/admin/keys", content=body if isinstance(body, bytes) else json.dumps(body).encode())
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert len((await admin.ask("GET", "/admin/keys")).json()["data"]) == before


async def test_a_rotation_takes_its_grace_and_nothing_else(admin: Admin) -> None:
    key = await admin.made()
    for body in ({"grace_s": 8 * 86_400}, {"grace_s": -1}, {"team": "ads"}, {"expires_in_s": None}):
        assert (await admin.ask("POST", f"/admin/keys/{key['id']}/rotate", json=body)).status_code == 400
    assert (await admin.models(key["key"])).status_code == 200


async def test_nobody_s_body_is_read_before_it_is_known_whose_it_is(admin: Admin) -> None:
    for caller in ("nobody", "gateway key"):
        assert (await admin.ask("POST", "/admin/keys", caller, content=b"{no JSON")).status_code == 401
    large = await admin.ask("POST", "/admin/keys", content=b" " * (MAX_BODY_BYTES + 1))
    assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")


async def test_the_configuration_is_told_without_secrets(admin: Admin) -> None:
    answer = await admin.ask("GET", "/admin/config")
    assert answer.json()["teams"]["search"]["models"] == ["solo"] and answer.json()["admin"]["oidc"]["client_id"] == CLIENT
    assert answer.json()["providers"]["one"]["headers"] == {"x-tenant": "**********"}
    for secret in ("sk-upstream-canary", "header-canary", "sk-search-canary", ADMIN_KEY, CLIENT_SECRET):
        assert secret not in answer.text


async def test_a_team_is_told_with_its_limits_and_how_many_keys_it_has(admin: Admin) -> None:
    before = (await admin.ask("GET", "/admin/teams/search")).json()["keys"]
    key = await admin.made()
    after = (await admin.ask("GET", "/admin/teams/search")).json()
    assert after["keys"] == {"of_the_file": 1, "made": before["made"] + 1} and after["models"] == ["solo"] and "sk-search" not in str(after)
    await admin.ask("DELETE", f"/admin/keys/{key['id']}")
    assert (await admin.ask("GET", "/admin/teams/search")).json()["keys"] == before


async def test_what_is_not_there_and_what_a_path_does_not_take_are_told_in_our_shape(admin: Admin) -> None:
    for method, path, status in (("GET", "/admin/nothing", 404), ("PUT", "/admin/keys", 405), ("GET", "/docs", 404), ("GET", "/v1/models", 404)):
        answer = await admin.ask(method, path)
        assert answer.status_code == status and answer.json()["error"]["request_id"]
    assert (await admin.gateway.http.get("/admin/keys", headers={"authorization": f"Bearer {ADMIN_KEY}"})).status_code == 404


async def test_the_admin_key_asks_no_model(admin: Admin) -> None:
    assert (await admin.models(ADMIN_KEY)).status_code == 401


async def test_a_thousand_hostile_keys_are_401(admin: Admin) -> None:
    tried = [f"' OR {n}={n} --" for n in range(300)] + [ADMIN_KEY + chr(33 + n % 90) for n in range(300)] + ["A.B." + "C" * n for n in range(100)]
    tried += [ADMIN_KEY[:n] for n in range(1, len(ADMIN_KEY))] + ["\xff" * n for n in range(1, 302 - len(ADMIN_KEY))]
    for key in tried:
        answer = await admin.http.get("/admin/keys", headers={"authorization": b"Bearer " + key.encode("latin-1")})
        assert answer.status_code == 401, key


async def test_a_port_that_is_taken_is_told_before_anything_starts(admin: Admin, tmp_path: Path) -> None:
    port = admin.url.rpartition(":")[2]
    text = f"state: {{database: 'sqlite:///{tmp_path}/t.db'}}\nadmin: {{key: sk-admin-0123456789, port: {port}}}\n"
    with pytest.raises(OSError, match=r"admin API cannot listen on 127\.0\.0\.1:\d+: .*choose another admin\.port"):
        async with running(text, tmp_path):
            pass


async def test_a_gateway_without_admin_serves_none(tmp_path: Path) -> None:
    async with running(f"state: {{database: 'sqlite:///{tmp_path}/t.db'}}\n", tmp_path) as gateway:
        assert gateway.runtime.admin is None


async def test_keys_that_cannot_be_read_or_written_are_a_503(tmp_path: Path) -> None:
    text = f"state: {{database: 'sqlite:///{tmp_path}/t.db'}}\nadmin: {{key: sk-admin-0123456789, port: 0}}\nteams: {{search: {{}}}}\n"
    async with running(text, tmp_path) as gateway, httpx2.AsyncClient(trust_env=False) as http:
        assert gateway.runtime.admin is not None
        url, headers = f"{gateway.runtime.admin.url}/admin/keys", {"x-api-key": "sk-admin-0123456789"}
        with gateway.runtime.ledger.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE keys")
        for answer in (await http.get(url, headers=headers), await http.post(url, headers=headers, json=NEW)):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_unavailable") and answer.headers["retry-after"]
