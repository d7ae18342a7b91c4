"""Names that clients and operators choose, and what is made of them: routes, headers, request ids, keys, logs."""

import json
import stat
import subprocess
from pathlib import Path

import pytest

from gateway.assembly import assemble, header_text
from gateway.bootstrap import bootstrap_key
from gateway.cli.serve import Key, banner
from gateway.identity import new_request_id
from gateway.logs import redact
from gateway.routes import Route, RouteTable
from policy.rule import Rule
from tests.gateway.conftest import Gateway
from tests.gateway.upstream import Upstream

ASK = [{"role": "user", "content": "Hi"}]


def table(*names: str) -> RouteTable:
    def filled(route: Route, matched: str) -> Route:
        return assemble(f"{route.name} with {matched}", route.rule, [])

    return RouteTable([assemble(name, Rule(), []) for name in names], filled)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("chat", "chat"),
        ("oai/gpt", "oai/* with gpt"),
        ("oai/mini/x", "oai/mini/* with x"),
        ("oai/exact", "oai/exact"),
        ("a-end", "*-end with a"),
        ("anything", "* with anything"),
    ],
)
def test_an_exact_name_comes_first_and_then_the_most_exact_pattern(asked: str, found: str) -> None:
    route = table("*", "oai/*", "oai/mini/*", "oai/exact", "chat", "*-end").find(asked)
    assert route is not None and route.name == found
    assert table("oai/*").find("oai/") is None and table("oai/*").find("chat") is None


@pytest.mark.parametrize("model", ["one/a\r\nx-evil: 1", "one/żółć 🚂", "one/a\0b", "one/" + "x" * 5000, "one/%0d%0a"])
async def test_a_model_name_never_breaks_a_header(gateway: Gateway, one: Upstream, model: str) -> None:
    answer = await gateway.post({"model": model, "messages": ASK})
    assert answer.status_code == 200 and "x-evil" not in answer.headers
    assert one.journal[0].body["model"] == model.removeprefix("one/")
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert row.model_asked == model


def test_a_header_s_text_is_visible_ascii() -> None:
    assert header_text("openai/gpt-4o:mini *") == b"openai/gpt-4o:mini *"
    assert header_text("a\r\nb ż %") == b"a%0D%0Ab %C5%BC %25"


def test_request_ids_are_unique_and_in_order_of_time() -> None:
    ids = [new_request_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [i[:16] for i in ids] == sorted(i[:16] for i in ids)


def test_the_bootstrap_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    key = bootstrap_key(tmp_path / "state")
    assert key == bootstrap_key(tmp_path / "state") and len(key) > 40
    assert stat.S_IMODE((tmp_path / "state" / "bootstrap.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert bootstrap_key(tmp_path / "other") != key


@pytest.mark.parametrize("secret", ["sk-proj-abcdefghijkl", "Bearer abc.def", "gsk_12345678901", "xai-1234567890", "AIzaSyA1234567890123456789"])
def test_what_looks_like_a_key_never_reaches_the_log(secret: str) -> None:
    assert secret not in str(redact(None, "", {"event": f"failed with {secret}!", "exception": f"Traceback {secret}"}))


@pytest.mark.parametrize(
    ("url", "key", "model"),
    [
        ("http://[::1]:80", Key('it\'s "k"', "TURNOUT_KEY"), "local"),
        ("http://h:1", Key(None, "TURNOUT_BOOTSTRAP_KEY"), "a'b\"c ż"),
        ("http://h:1", Key(None, "TURNOUT_KEY"), "oai/*"),
    ],
)
def test_the_printed_line_is_what_a_shell_reads_as_meant(url: str, key: Key, model: str) -> None:
    printed = banner(url, key, model, [])
    line = next(line for line in printed.splitlines() if "curl" in line).strip()
    variables = {"TURNOUT_BOOTSTRAP_KEY": "secret 1", "TURNOUT_KEY": "secret 2"}
    said = subprocess.run(["bash", "-c", line.replace("curl", "printf '%s\\0'", 1)], env=variables, capture_output=True, check=True).stdout.decode()
    _, at, _, authorization, _, content_type, _, body, _ = said.split("\0")
    assert at == f"{url}/v1/chat/completions" and content_type == "content-type: application/json"
    assert authorization == f"authorization: Bearer {key.shown or variables[key.variable]}"
    assert json.loads(body)["model"] == model.replace("*", "NAME")
    assert key.shown is not None or "secret" not in printed
