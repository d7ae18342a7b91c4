"""`turnout explain` on docs/explain.md's own configuration, over a ledger that real requests through a gateway have filled."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from click.testing import Result
from typer.testing import CliRunner

from config.load import load
from contract.errors import InvalidRequest
from gateway.cli.main import app
from gateway.cli.settings import known_kinds
from gateway.foresight import foresee
from policy.ask import Ask
from tests.config.files import ROOT
from tests.gateway.conftest import running
from tests.gateway.upstream import Exchange, Play, Upstream, chunk

TEXT = (ROOT / "docs" / "explain.md").read_text()
(CONFIG,) = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.M | re.S) for line in block.splitlines()]
SLOW_S = 0.6
KEY = "sk-search"


def answering(after_s: float) -> Play:
    """A stream of 40 words at some 800 a second."""

    async def play(x: Exchange) -> None:
        await asyncio.sleep(after_s)
        await x.start_stream()
        for _ in range(40):
            await x.event(chunk({"content": "track "}))
            await asyncio.sleep(0.001)
        await x.event(chunk({}, finish="stop"))
        await x.event(chunk(None, usage={"prompt_tokens": 900, "completion_tokens": 40, "total_tokens": 940}))
        await x.event("[DONE]")
        await x.end_stream()

    return play


@dataclass(frozen=True)
class Practised:
    """A folder with a configuration and the ledger of a gateway that has served it. `last`: its last request's id."""

    folder: Path
    last: str
    targets: list[str]  # who answered, in turn
    answers: dict[str, tuple[int, Any]]  # the curl commands' paths -> status and body, while it ran

    def turnout(self, *arguments: str) -> Result:
        """The command in this process: a new one takes a second to start, and there are many here."""
        return CliRunner().invoke(app, [*arguments, *([] if "--config" in arguments else ["--config", "turnout.yaml"])])


async def practise(folder: Path) -> Practised:
    upstreams = [await Upstream().start() for _ in range(3)]
    for upstream, after_s in zip(upstreams, (SLOW_S, 0.0, 0.0), strict=True):
        upstream.plays["small"] = answering(after_s)
    text = CONFIG
    for port, upstream in zip(("9101", "9102", "9103"), upstreams, strict=True):
        text = text.replace(port, str(upstream.port))
    text += 'state: {database: "sqlite:///turnout.db"}\n'
    body = {"model": "chat", "messages": [{"role": "user", "content": "depot " * 600}], "stream": True}
    async with running(text, folder) as gateway:
        heads = [(await gateway.post(body, key=KEY)).headers for _ in range(10)]
        last = heads[-1]["x-request-id"]
        answers = {}
        for path in re.findall(r"127\.0\.0\.1:8080(/[^\"\s]+)", TEXT):
            answer = await gateway.http.get(path.replace("$REQUEST_ID", last), headers={"authorization": f"Bearer {KEY}"})
            answers[path] = answer.status_code, answer.json()
    for upstream in upstreams:
        await upstream.stop()
    return Practised(folder, last, [head["x-turnout-target"] for head in heads], answers)


@pytest.fixture(scope="module")
def practised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Practised]:
    folder = tmp_path_factory.mktemp("explain")
    here = Path.cwd()
    os.chdir(folder)  # the ledger's path is relative, as in the document
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            yield runner.run(practise(folder))
    finally:
        os.chdir(here)


def words(text: str) -> str:
    """Without the frame that an error may stand in."""
    return " ".join(text.replace("│", " ").split())


def explained(practised: Practised, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = practised.turnout("explain", *arguments, "--json")
    assert done.exit_code == code, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


# --- what would be decided now ---------------------------------------------------------------------------------------------
def test_a_slow_primary_is_measured_and_then_passed_over(practised: Practised) -> None:
    assert practised.targets[0] == "alpha/small" and practised.targets[-1] == "beta/small"


def test_the_ledger_s_history_alone_tells_that_the_primary_is_slow(practised: Practised) -> None:
    told = explained(practised, "--team", "search", "--model", "chat")
    by_name = {each["target"]: each for each in told["candidates"]}
    assert (told["chosen"], told["why"], told["slo_met"]) == ("beta/small", "cheapest of those that meet the SLO", True)
    assert by_name["alpha/small"]["ttft_p95_ms"] >= SLOW_S * 1000 and by_name["alpha/small"]["p_slo"] < 0.1
    assert by_name["alpha/small"]["cost_usd"] < by_name["beta/small"]["cost_usd"], "cheaper, but not in time"
    assert by_name["beta/small"]["p_slo"] >= 0.95 and by_name["beta/small"]["samples"] >= 3
    assert by_name["gamma/small"]["p_slo"] is None and by_name["gamma/small"]["samples"] == 0


def test_the_table_shows_every_candidate_with_its_verdict_and_why(practised: Practised) -> None:
    done = practised.turnout("explain", "--team", "search", "--model", "chat")
    asked, policy, chosen, head, *lines = done.stdout.splitlines()
    assert asked == "model chat, team search: about 1000 tokens in the prompt, streamed"
    assert policy == "policy interactive: cheapest, first token within 400 ms"
    assert chosen == "chosen: beta/small (cheapest of those that meet the SLO, predicted to meet the SLO)"
    assert head.split()[:3] == ["target", "verdict", "why"] and [line.split()[:2] for line in lines] == [
        ["beta/small", "chosen"],
        ["gamma/small", "fallback"],
        ["alpha/small", "fallback"],
    ]


def test_a_policy_that_leaves_no_target_exits_1_and_names_the_rule_of_each(practised: Practised) -> None:
    told = explained(practised, "--team", "trial", "--model", "chat", code=1)
    assert told["chosen"] is None and all(each["rule"].startswith("max_usd_per_request: about $0.00") for each in told["candidates"])
    assert "chosen: nobody (no target is left)" in practised.turnout("explain", "--team", "trial", "--model", "chat").stdout


def test_what_the_request_would_be_is_part_of_the_decision(practised: Practised) -> None:
    told = explained(practised, "--model", "chat", "--prompt-tokens", "6000", "--max-tokens", "3", "--unary")
    assert (told["prompt_tokens"], told["max_tokens"], told["streamed"]) == (6000, 3, False)
    assert all(each["output_tokens"] <= 3 for each in told["candidates"])


WRONG = {
    "an unknown team": (["--team", "serch", "--model", "chat"], "there is no team 'serch'; did you mean `search`?"),
    "an unknown model": (["--team", "search", "--model", "chta"], "there is no model 'chta' for the team 'search'; did you mean `chat`?"),
    "neither a model nor a request": ([], "name either a request's id or a --model"),
    "a prompt longer than any": (["--model", "chat", "--prompt-tokens", "9" * 20], "Input should be less than or equal to 100000000"),
    "a limit higher than any": (["--model", "chat", "--max-tokens", "9" * 20], "Input should be less than or equal to 100000000"),
    "both": (["req_1", "--model", "chat"], "name either a request's id or a --model"),
}


@pytest.mark.parametrize(("arguments", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_use_exits_2_and_says_what_to_write(practised: Practised, arguments: list[str], says: str) -> None:
    done = practised.turnout("explain", *arguments)
    assert done.exit_code == 2 and says in words(done.stderr) and not done.stdout


def test_without_a_ledger_nothing_is_known_and_none_is_made(practised: Practised, tmp_path: Path) -> None:
    text = (practised.folder / "turnout.yaml").read_text().replace("sqlite:///turnout.db", f"sqlite:///{tmp_path}/none.db")
    (tmp_path / "other.yaml").write_text(text)
    done = practised.turnout("explain", "--model", "chat", "--config", str(tmp_path / "other.yaml"))
    assert done.exit_code == 0 and "there is no ledger at" in done.stderr and "the SLO's odds are not known yet" in done.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["other.yaml"]


# --- what was decided ------------------------------------------------------------------------------------------------------
def test_a_stored_decision_is_told_with_what_then_happened(practised: Practised) -> None:
    told = explained(practised, practised.last)
    assert told["request_id"] == practised.last and told["decision"]["chosen"] == "beta/small"
    assert [attempt["target"] for attempt in told["attempts"]] == ["beta"]
    done = practised.turnout("explain", practised.last)
    assert "chosen: beta/small (cheapest of those that meet the SLO, predicted to meet the SLO)" in done.stdout
    assert done.stdout.index("what then happened:") < done.stdout.index("predicted ms: first_token p95")


def test_a_request_that_the_ledger_lacks_exits_1(practised: Practised) -> None:
    done = practised.turnout("explain", "req_none")
    assert done.exit_code == 1 and done.stderr == "the ledger has no request 'req_none'\n"


# --- the document ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("command", [line for line in COMMANDS if "turnout" in line])
def test_a_command_of_the_document_works(practised: Practised, command: str) -> None:
    turnout = Path(sys.executable).with_name("turnout")
    env = {**os.environ, "REQUEST_ID": practised.last}
    line = command.replace(".venv/bin/turnout", str(turnout))
    done = subprocess.run(["bash", "-ec", line], cwd=practised.folder, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout and not done.stderr, done.stderr


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("curl")])
def test_an_address_of_the_document_answers(practised: Practised, command: str) -> None:
    (path,) = re.findall(r"127\.0\.0\.1:8080(/[^\"\s]+)", command)
    status, body = practised.answers[path]
    assert status == 200 and (body.get("decision") or body.get("data"))
    assert f"Bearer {KEY}" in command


def test_every_command_of_the_document_is_run_above() -> None:
    assert COMMANDS and all("turnout" in line or line.startswith("curl") for line in COMMANDS)


def test_the_document_shows_the_table_that_is_printed(practised: Practised) -> None:
    shown = TEXT.split("```text\n")[1].split("```")[0].splitlines()
    printed = practised.turnout("explain", "--team", "search", "--model", "chat").stdout.splitlines()
    assert shown[:3] == printed[:3] and shown[3].split() == printed[3].split()
    assert [re.split(r"  +", line)[:3] for line in shown[4:]] == [re.split(r"  +", line)[:3] for line in printed[4:]]


def test_what_a_team_may_spend_on_a_request_is_part_of_the_decision(tmp_path: Path) -> None:
    price = "price: {input_usd_per_mtok: 1000, output_usd_per_mtok: 1000}"
    (tmp_path / "turnout.yaml").write_text(
        'providers: {one: {kind: openai-compatible, base_url: "http://127.0.0.1:9/v1", api_key: k}}\n'
        f"models: {{m: {{targets: [{{provider: one, model: dear, {price}}}]}}}}\n"
        "teams: {poor: {keys: [k1], max_usd_per_request: 0.01, max_tokens_per_request: 50}, rich: {keys: [k2]}}\n"
    )
    settings = load(tmp_path / "turnout.yaml", {}, known_kinds()).settings
    ask = Ask("", True, 1000)
    poor, rich = (foresee(settings, team, "m", ask, None) for team in ("poor", "rich"))
    assert rich.chosen == "one/dear" and rich.max_tokens is None
    with pytest.raises(InvalidRequest, match="60 tokens are more than this team may ask for: 50 at most"):
        foresee(settings, "poor", "m", msgspec.structs.replace(ask, max_tokens=60), None)
    assert poor.chosen is None and poor.max_tokens == 50 and poor.candidates[0].rule.startswith("max_usd_per_request: about $")
