"""Single sign-on through real HTTP, as a browser goes, with a real provider in a process of its own."""

import asyncio
import json
import sqlite3
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from tests.gateway.oidc_admin import ADMIN_KEY, KEY, Browser, OidcServer, admin, free_port, oidc_server, process, settings_of

COOKIE = "turnout-admin"


@pytest.fixture(scope="module")
def running() -> Iterator[OidcServer]:
    with oidc_server() as server:
        yield server


@pytest.fixture
def provider(running: OidcServer) -> OidcServer:
    """The provider, as if it had just been started."""
    running.control(claims={}, thin=False, told={}, down=False)
    return running


@pytest.fixture
async def url(provider: OidcServer, tmp_path: Path) -> AsyncIterator[str]:
    async with admin(settings_of(provider.issuer), tmp_path) as url:
        yield url


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with Browser() as browser:
        yield browser


# --- signing in ----------------------------------------------------------------------------------------------------------
async def test_somebody_who_signs_in_is_known_by_name_and_role(url: str, browser: Browser) -> None:
    answer = await browser.sign_in(url, "tom")
    assert answer.status_code == 200
    told = answer.json()
    assert (told["subject"], told["name"], told["via"], told["roles"], told["teams"]) == ("tom", "Tom", "session", ["team-owner"], ["maps", "search"])


async def test_the_session_cookie_is_kept_from_scripts_and_from_other_sites(url: str, browser: Browser) -> None:
    answer = await browser.sign_in(url, "ada")
    made = next(cookie for cookie in answer.history[-1].headers.get_list("set-cookie") if cookie.startswith(f"{COOKIE}="))
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(made.split("; "))


async def test_behind_https_cookies_are_secure_and_bound_to_the_host(provider: OidcServer, tmp_path: Path, browser: Browser) -> None:
    async with admin(settings_of(provider.issuer, public_url="https://gateway.example/"), tmp_path) as url:
        answer = await browser.get(f"{url}/auth/login", follow_redirects=False)
    assert answer.headers["set-cookie"].startswith("__Host-turnout-login=") and "; Secure" in answer.headers["set-cookie"]
    assert parse_qs(urlsplit(answer.headers["location"]).query)["redirect_uri"] == ["https://gateway.example/auth/callback"]


async def test_a_sign_in_comes_back_to_the_path_it_was_begun_for(url: str, browser: Browser) -> None:
    answer = await browser.sign_in(url, "ada", "/things/search?page=2")
    assert str(answer.url) == f"{url}/things/search?page=2" and answer.json() == "read"


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "/\t/evil.example", "evil", "/a\r\nx: y", ""])
async def test_a_sign_in_never_leads_to_another_host(url: str, browser: Browser, elsewhere: str) -> None:
    assert str((await browser.sign_in(url, "ada", elsewhere)).url) == f"{url}/auth/session"


async def test_groups_that_only_userinfo_tells_count(provider: OidcServer, url: str, browser: Browser) -> None:
    provider.control(thin=True)
    assert (await browser.sign_in(url, "vic")).json()["roles"] == ["viewer"]


async def test_somebody_without_a_role_gets_no_session(url: str, browser: Browser) -> None:
    assert (await browser.sign_in(url, "nobody")).status_code == 403
    assert COOKIE not in browser.cookies and (await browser.get(f"{url}/auth/session")).status_code == 401


async def test_an_unmodified_provider_of_others_signs_people_in(tmp_path: Path, browser: Browser) -> None:
    port = free_port()
    person = json.dumps({"sub": "grace", "groups": ["gateway-admins"]})
    with process(["-m", "oidc_provider_mock", "--port", str(port), "--user-claims", person], "startup complete"):
        async with admin(settings_of(f"http://127.0.0.1:{port}"), tmp_path) as url:
            assert (await browser.sign_in(url, "grace")).json()["roles"] == ["admin"]


# --- what is refused at sign-in -------------------------------------------------------------------------------------------
BAD_CLAIMS: dict[str, dict[str, Any]] = {
    "another nonce": {"nonce": "of another sign-in"},
    "no nonce": {"nonce": None},
    "another audience": {"aud": "another-client"},
    "several audiences, and nobody authorised": {"aud": ["turnout", "another-client"]},
    "another authorised party": {"azp": "another-client"},
    "another issuer": {"iss": "https://evil.example"},
    "the past": {"exp": 1_000_000_000},
    "the future": {"iat": 4_000_000_000},
    "not yet": {"nbf": 4_000_000_000},
    "another access token": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
}


@pytest.mark.parametrize("claims", BAD_CLAIMS.values(), ids=BAD_CLAIMS)
async def test_an_id_token_that_is_not_of_this_sign_in_signs_nobody_in(
    provider: OidcServer, url: str, browser: Browser, claims: dict[str, Any]
) -> None:
    provider.control(claims=claims)
    answer = await browser.sign_in(url, "ada")
    assert answer.status_code == 401 and answer.text.startswith("sign_in_failed")
    assert COOKIE not in browser.cookies


async def test_a_callback_that_this_browser_did_not_begin_is_refused(url: str, browser: Browser) -> None:
    async with Browser() as other:
        form = await other.get(f"{url}/auth/login")
        sent = await other.post(form.url, data={"name": "ada", "password": "secret"}, follow_redirects=False)
    answer = await browser.get(sent.headers["location"])
    assert answer.status_code == 401 and COOKIE not in browser.cookies


async def test_userinfo_of_somebody_else_signs_nobody_in(provider: OidcServer, url: str, browser: Browser) -> None:
    provider.control(thin=True, told={"sub": "ada"})
    assert (await browser.sign_in(url, "vic")).status_code == 401


async def test_a_callback_with_another_state_is_refused(url: str, browser: Browser) -> None:
    form = await browser.get(f"{url}/auth/login")
    sent = await browser.post(form.url, data={"name": "ada", "password": "secret"}, follow_redirects=False)
    where = httpx2.URL(sent.headers["location"])
    assert (await browser.get(where.copy_set_param("state", "guessed"))).status_code == 401
    assert (await browser.get(where)).status_code == 200


async def test_a_callback_works_once(url: str, browser: Browser) -> None:
    form = await browser.get(f"{url}/auth/login")
    begun = dict(browser.cookies)
    sent = await browser.post(form.url, data={"name": "ada", "password": "secret"}, follow_redirects=False)
    assert (await browser.get(sent.headers["location"])).status_code == 200
    browser.cookies = begun  # type: ignore[assignment]
    assert (await browser.get(sent.headers["location"])).status_code == 401


async def test_a_code_without_its_verifier_is_worth_nothing(url: str, browser: Browser) -> None:
    form = await browser.get(f"{url}/auth/login")
    sent = await browser.post(form.url, data={"name": "ada", "password": "secret"}, follow_redirects=False)
    cookie = browser.cookies["turnout-login"]
    begun = json.loads(urlsafe_b64decode(cookie + "=="))
    begun["verifier"] = "x" * 64
    browser.cookies.clear()
    browser.cookies.set("turnout-login", urlsafe_b64encode(json.dumps(begun).encode()).decode().rstrip("="))
    assert (await browser.get(sent.headers["location"])).status_code == 401


async def test_an_answer_in_another_providers_name_is_refused(url: str, browser: Browser) -> None:
    form = await browser.get(f"{url}/auth/login")
    sent = await browser.post(form.url, data={"name": "ada", "password": "secret"}, follow_redirects=False)
    assert (await browser.get(sent.headers["location"] + "&iss=https://evil.example")).status_code == 401


async def test_a_discovery_document_of_another_issuer_is_not_used(provider: OidcServer, tmp_path: Path, browser: Browser) -> None:
    async with admin(settings_of(provider.issuer + "/"), tmp_path) as url:
        assert (await browser.get(f"{url}/auth/login")).status_code == 503


# --- what each role may do ------------------------------------------------------------------------------------------------
MAY = {  # person: (read search, read another team, write search, write another team, write what is nobody's)
    "ada": (200, 200, 200, 200, 200),
    "vic": (200, 200, 403, 403, 403),
    "tom": (200, 404, 200, 404, 403),
}


@pytest.mark.parametrize("person", MAY)
async def test_a_role_may_do_this_and_no_more(url: str, browser: Browser, person: str) -> None:
    await browser.sign_in(url, person)
    reads = [(await browser.get(f"{url}/things/{team}")).status_code for team in ("search", "ads")]
    writes = [(await browser.write(f"{url}/{path}")).status_code for path in ("things/search", "things/ads", "things")]
    assert (*reads, *writes) == MAY[person]


async def test_a_role_that_the_configuration_takes_away_is_gone_at_once(provider: OidcServer, tmp_path: Path, browser: Browser) -> None:
    async with admin(settings_of(provider.issuer), tmp_path) as url, admin(settings_of(provider.issuer, admins=[]), tmp_path) as later:
        await browser.sign_in(url, "ada")
        assert (await browser.get(f"{later}/things/search")).status_code == 403


async def test_a_write_by_cookie_needs_the_token_of_its_own_session(url: str, browser: Browser) -> None:
    told = (await browser.sign_in(url, "ada")).json()
    async with Browser() as other:
        others = (await other.sign_in(url, "ada")).json()["csrf_token"]
    for headers in ({}, {"x-turnout-csrf": ""}, {"x-turnout-csrf": others}):
        answer = await browser.post(f"{url}/things", headers=headers)
        assert answer.status_code == 403 and answer.text.startswith("csrf")
    assert (await browser.post(f"{url}/things", headers={"x-turnout-csrf": told["csrf_token"]})).status_code == 200


# --- sessions -------------------------------------------------------------------------------------------------------------
async def test_a_session_holds_in_every_process_and_a_logout_ends_it_in_all(provider: OidcServer, tmp_path: Path, browser: Browser) -> None:
    settings = settings_of(provider.issuer)
    async with admin(settings, tmp_path) as one, admin(settings, tmp_path) as two:
        await browser.sign_in(one, "ada")
        kept = {COOKIE: browser.cookies[COOKIE]}
        assert (await browser.get(f"{two}/things/search")).status_code == 200
        assert (await browser.write(f"{two}/auth/logout")).status_code == 200
        async with Browser() as thief:
            thief.cookies.update(kept)
            assert [(await thief.get(f"{at}/things/search")).status_code for at in (one, two)] == [401, 401]


async def test_a_logout_leads_through_the_provider_and_back(url: str, browser: Browser) -> None:
    await browser.sign_in(url, "ada")
    where = (await browser.write(f"{url}/auth/logout")).json()["continue_at"]
    assert COOKIE not in browser.cookies
    assert str((await browser.get(where)).url) == f"{url}/"


async def test_the_database_has_neither_the_session_id_nor_a_token(url: str, tmp_path: Path, browser: Browser) -> None:
    await browser.sign_in(url, "ada")
    with sqlite3.connect(tmp_path / "turnout.db") as database:
        rows = database.execute("SELECT * FROM admin_sessions").fetchall()
    database.close()
    assert len(rows) == 1
    assert browser.cookies[COOKIE].encode() not in repr(rows).encode() and "eyJ" not in repr(rows)


# --- programs -------------------------------------------------------------------------------------------------------------
async def asked(browser: Browser, url: str, token: str, path: str = "/things/search") -> int:
    return (await browser.get(url + path, headers={"authorization": f"Bearer {token}"})).status_code


async def test_a_program_comes_in_by_a_token_of_the_provider(provider: OidcServer, url: str, browser: Browser) -> None:
    token = provider.sign({"groups": ["search-leads"], "aud": ["turnout", "another"]})
    assert [await asked(browser, url, token, path) for path in ("/things/search", "/things/ads")] == [200, 404]


async def test_a_program_needs_no_csrf_token(provider: OidcServer, url: str, browser: Browser) -> None:
    token = provider.sign({"groups": ["gateway-admins"]})
    assert (await browser.post(f"{url}/things", headers={"authorization": f"Bearer {token}"})).status_code == 200


async def test_a_token_without_a_role_may_nothing(provider: OidcServer, url: str, browser: Browser) -> None:
    assert await asked(browser, url, provider.sign({})) == 403


BAD_TOKENS: dict[str, dict[str, Any]] = {
    "another audience": {"claims": {"aud": "another"}},
    "no audience": {"claims": {"aud": None}},
    "another issuer": {"claims": {"iss": "https://evil.example"}},
    "no end": {"claims": {"exp": None}},
    "the past": {"claims": {"exp": 1_000_000_000}},
    "another's signature": {"forged": True},
    "an unknown key": {"forged": True, "header": {"kid": "unknown"}},
}


@pytest.mark.parametrize("bad", BAD_TOKENS.values(), ids=BAD_TOKENS)
async def test_a_token_with_something_wrong_is_refused(provider: OidcServer, url: str, browser: Browser, bad: dict[str, Any]) -> None:
    bad = {**bad, "claims": {"groups": ["gateway-admins"], **bad.get("claims", {})}}
    assert await asked(browser, url, provider.sign(**bad)) == 401


async def test_a_wrong_key_is_not_helped_by_a_session(url: str, browser: Browser) -> None:
    await browser.sign_in(url, "ada")
    for headers in ({"authorization": "Bearer wrong"}, {"x-api-key": "wrong"}, {"authorization": "Basic x"}):
        assert (await browser.get(f"{url}/things/search", headers=headers)).status_code == 401


async def test_tokens_that_begin_alike_are_told_apart(provider: OidcServer, url: str, browser: Browser) -> None:
    good = provider.sign({"groups": ["gateway-admins"]})
    head, _, signature = good.rpartition(".")
    assert await asked(browser, url, good) == 200
    assert await asked(browser, url, f"{head}.{signature[::-1]}") == 401


# --- the provider changes, and fails --------------------------------------------------------------------------------------
async def test_a_new_key_is_fetched_when_a_token_names_it_and_the_old_one_is_no_longer_believed(
    provider: OidcServer, url: str, browser: Browser
) -> None:
    old = provider.sign({"groups": ["gateway-admins"]})
    assert await asked(browser, url, old) == 200
    provider.control(rotate=True)
    assert (await browser.sign_in(url, "ada")).status_code == 200
    assert await asked(browser, url, old) == 401


async def test_unknown_keys_make_the_provider_be_asked_once_in_a_while(provider: OidcServer, tmp_path: Path, browser: Browser) -> None:
    async with admin(settings_of(provider.issuer), tmp_path, renew_s=60) as url:
        provider.control()
        tokens = [provider.sign({}, {"kid": f"made up {n}"}, forged=True) for n in range(20)]
        assert set(await asyncio.gather(*(asked(browser, url, token) for token in tokens))) == {401}
        assert provider.control()["asked"].count("/jwks") == 1


async def test_a_provider_that_is_down_leaves_the_admin_key_and_sessions_working(provider: OidcServer, tmp_path: Path, browser: Browser) -> None:
    async with admin(settings_of(provider.issuer), tmp_path) as first:
        await browser.sign_in(first, "ada")
        provider.control(down=True)
        async with admin(settings_of(provider.issuer), tmp_path) as url, Browser() as other:
            assert (await other.get(f"{url}/auth/login")).status_code == 503
            assert (await other.get(f"{url}/things/search", headers=KEY)).status_code == 200
            assert (await browser.get(f"{url}/things/search")).status_code == 200
            assert (await browser.write(f"{url}/auth/logout")).json() == {"continue_at": None}


async def test_a_provider_that_nobody_can_reach_is_told_and_keys_are_judged_without_it(tmp_path: Path, browser: Browser) -> None:
    async with admin(settings_of(f"http://127.0.0.1:{free_port()}"), tmp_path) as url:
        assert (await browser.get(f"{url}/auth/login")).status_code == 503
        assert await asked(browser, url, ADMIN_KEY) == 200
        assert await asked(browser, url, "sk-wrong-admin-key") == 401


async def test_keys_that_are_known_are_used_while_the_provider_is_down(provider: OidcServer, url: str, browser: Browser) -> None:
    assert await asked(browser, url, provider.sign({"groups": ["gateway-admins"]})) == 200
    newer = provider.sign({"groups": ["gateway-admins"], "sub": "another robot"})
    provider.control(down=True)
    assert await asked(browser, url, newer) == 200


async def test_a_token_whose_key_cannot_be_looked_up_is_not_called_wrong(provider: OidcServer, url: str, browser: Browser) -> None:
    assert await asked(browser, url, provider.sign({"groups": ["gateway-admins"]})) == 200
    unknown = provider.sign({"groups": ["gateway-admins"]}, {"kid": "made up"}, forged=True)
    provider.control(down=True)
    assert await asked(browser, url, unknown) == 503
