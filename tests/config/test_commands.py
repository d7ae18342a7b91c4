"""The commands about configuration as a stranger runs them: real processes, exit codes, and nothing shown that is secret."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests import command
from tests.config.files import KNOWN, ROOT

COMMAND = str(Path(sys.executable).with_name("turnout"))
NOT_OURS = re.compile(r".*_API_KEY$|^TURNOUT_.*|^PYTHONPATH$")
EXAMPLE = (ROOT / "config" / "example.yaml").read_text()
GOOD = 'engines: {cpu: {kind: llamacpp, model: "builtin:smollm2-135m-instruct"}}\nmodels: {chat: {targets: [{engine: cpu}]}}\n'
LAB = "providers: {lab: {kind: openai-compatible, base_url: 'http://127.0.0.1:9/v1'}}\nmodels: {own: {targets: [{provider: lab}]}}\n"
BAD = "server:\n  prot: 1\nteams: {t: {keys: ['${NONE_KEY:-k}'], budget: {usd: 0}}}\n"


def turnout(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not NOT_OURS.match(k)} | env
    return command.turnout(*args, cwd=cwd, env=clean)


def write(folder: Path, text: str) -> Path:
    path = folder / "turnout.yaml"
    path.write_text(text)
    return path


# --- check -----------------------------------------------------------------------------------------------------------------
def test_check_of_a_good_file_exits_0_and_says_ok(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    done = turnout("check", "turnout.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "turnout.yaml: ok\n", "")


def test_check_exits_1_with_a_line_for_each_finding_on_stderr(tmp_path: Path) -> None:
    write(tmp_path, BAD)
    done = turnout("check", "turnout.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "turnout.yaml:2:3: `prot` is not a key of server; did you mean `port`?",
        "turnout.yaml:3:53: `teams.t.budget.usd`: should be greater than 0; take the budget out for no limit",
        "turnout.yaml: 2 findings",
    ]


def test_check_exits_1_for_advice_too(tmp_path: Path) -> None:
    write(tmp_path, "server: {}\n")
    done = turnout("check", "turnout.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "turnout.yaml: 1 finding"


def test_check_exits_0_for_a_note_and_prints_it(tmp_path: Path) -> None:
    write(tmp_path, LAB)
    done = turnout("check", "turnout.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "turnout.yaml: ok\n")
    assert "so its cost would be null; add `price`, or `price: free` where nothing is paid" in done.stderr


def test_check_prints_its_findings_as_json(tmp_path: Path) -> None:
    write(tmp_path, BAD)
    done = turnout("check", "turnout.yaml", "--json", cwd=tmp_path)
    first, second = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    assert first == {
        "file": "turnout.yaml",
        "line": 2,
        "column": 3,
        "message": "`prot` is not a key of server; did you mean `port`?",
        "advice": False,
        "note": False,
    }
    assert (second["line"], second["column"]) == (3, 53)


def test_check_of_a_good_file_prints_an_empty_json_list(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    done = turnout("check", "turnout.yaml", "--json", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def test_check_tells_advice_from_faults_in_json(tmp_path: Path) -> None:
    write(tmp_path, "server: {}\n")
    (row,) = json.loads(turnout("check", "turnout.yaml", "--json", cwd=tmp_path).stdout)
    assert row["advice"] is True


@pytest.mark.parametrize("name", ["nope.yaml", "."])
def test_check_of_what_is_no_file_exits_1_and_says_so(tmp_path: Path, name: str) -> None:
    done = turnout("check", name, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{name}: cannot be read: ") and "Traceback" not in done.stderr


def test_check_takes_variables_from_the_environment_and_shows_none(tmp_path: Path) -> None:
    write(tmp_path, "engines: {e: {kind: llamacpp, model: '${WHERE}'}}\nstate: {database: '${WHERE}'}\n")
    done = turnout("check", "turnout.yaml", cwd=tmp_path, WHERE="sk-very-secret")
    assert done.returncode == 1 and "sk-very-secret" not in done.stderr + done.stdout


def test_check_reads_a_pipe(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    done = subprocess.run(["bash", "-c", f"{COMMAND} check <(cat turnout.yaml)"], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


# --- init ------------------------------------------------------------------------------------------------------------------
def test_init_writes_an_example_that_check_has_nothing_to_say_of(tmp_path: Path) -> None:
    done = turnout("init", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("wrote turnout.yaml; next: ")
    assert (tmp_path / "turnout.yaml").read_text() == EXAMPLE
    assert turnout("check", "turnout.yaml", cwd=tmp_path).returncode == 0


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, "mine")
    done = turnout("init", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "turnout.yaml exists already; --force overwrites it\n" and path.read_text() == "mine"


def test_init_overwrites_when_it_is_forced_to(tmp_path: Path) -> None:
    path = write(tmp_path, "mine" * 10_000)
    assert turnout("init", "--force", cwd=tmp_path).returncode == 0
    assert path.read_text() == EXAMPLE


def test_init_writes_where_it_is_told(tmp_path: Path) -> None:
    assert turnout("init", "other.yaml", cwd=tmp_path).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["other.yaml"]


def test_init_where_nothing_can_be_written_exits_1_and_says_so(tmp_path: Path) -> None:
    done = turnout("init", "nowhere/turnout.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "nowhere/turnout.yaml cannot be written: No such file or directory\n"


# --- config schema, providers ------------------------------------------------------------------------------------------------
def test_config_schema_prints_what_the_schemas_file_holds(tmp_path: Path) -> None:
    done = turnout("config", "schema", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, (ROOT / "config" / "turnout.schema.json").read_text())


def test_providers_lists_every_kind_with_its_key_variable(tmp_path: Path) -> None:
    done = turnout("providers", cwd=tmp_path)
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert done.returncode == 0 and set(rows) == set(KNOWN.provider_kinds)
    assert all((variable or "no key needed") in rows[kind] for kind, variable in KNOWN.provider_kinds.items())


def test_providers_says_whether_a_key_is_set_and_never_shows_it(tmp_path: Path) -> None:
    done = turnout("providers", cwd=tmp_path, GROQ_API_KEY="sk-very-secret")
    assert "GROQ_API_KEY (set)" in done.stdout and "OPENAI_API_KEY (not set)" in done.stdout
    assert "sk-very-secret" not in done.stdout


def test_providers_prints_json(tmp_path: Path) -> None:
    done = turnout("providers", "--json", cwd=tmp_path, GROQ_API_KEY="sk-very-secret")
    rows = {row["kind"]: row for row in json.loads(done.stdout)}
    assert set(rows) == set(KNOWN.provider_kinds)
    groq = rows["groq"]
    assert (groq["base_url"], groq["key"], groq["key_set"]) == ("https://api.groq.com/openai/v1", "GROQ_API_KEY", True)
    told = {"wire", "auth", "native", "capabilities", "renames", "terminal_event", "batch", "passes"}
    assert all(told <= set(row) for row in rows.values())
    assert "sk-very-secret" not in done.stdout


def test_providers_tells_all_of_one_kind_a_fact_a_line(tmp_path: Path) -> None:
    done = turnout("providers", "deepseek", cwd=tmp_path)
    told = {line[:19].strip(): line[19:] for line in done.stdout.splitlines() if not line.startswith(" ")}
    assert told["wire"] == "openai_chat" and told["auth"] == "bearer" and told["base url"] == "https://api.deepseek.com"
    assert told["terminal event"] == "yes" and told["batch"] == "none" and told["key"] == "DEEPSEEK_API_KEY"
    assert told["renames"] == "max_completion_tokens  ->  max_tokens" and "logprobs" in told["capabilities"] and "images" not in told["capabilities"]


def test_providers_suggests_the_kind_that_was_meant(tmp_path: Path) -> None:
    done = turnout("providers", "mistrl", cwd=tmp_path)
    assert done.returncode == 2 and "did you mean `mistral`?" in done.stderr


# --- doctor ------------------------------------------------------------------------------------------------------------------
def test_doctor_of_a_machine_that_is_well_exits_0_and_writes_nothing(tmp_path: Path) -> None:
    write(tmp_path, GOOD + "server: {port: 0}\n")
    done = turnout("doctor", "--config", "turnout.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}
    assert [path.name for path in tmp_path.iterdir()] == ["turnout.yaml"]


def test_doctor_prints_json(tmp_path: Path) -> None:
    write(tmp_path, GOOD + "server: {port: 0}\n")
    rows = json.loads(turnout("doctor", "--config", "turnout.yaml", "--json", cwd=tmp_path).stdout)
    assert [row["check"] for row in rows] == ["python", "cpus", "engine library", "configuration", "engine cpu", "state folder", "ledger", "address"]
    assert all(row["ok"] and row["detail"] for row in rows)


def test_doctor_without_a_file_looks_at_what_would_be_served(tmp_path: Path) -> None:
    rows = {row["check"]: row for row in json.loads(turnout("doctor", "--json", cwd=tmp_path).stdout)}
    assert rows["configuration"] == {"check": "configuration", "ok": True, "detail": "without a file: ok"}
    assert rows["engine cpu"]["ok"]


def test_doctor_of_a_broken_configuration_exits_1_and_tells_its_findings(tmp_path: Path) -> None:
    write(tmp_path, BAD)
    done = turnout("doctor", "--config", "turnout.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "FAIL  configuration" in done.stdout and "turnout.yaml:2:3: `prot` is not a key of server" in done.stdout


def failing(folder: Path, text: str) -> dict[str, str]:
    write(folder, text)
    done = turnout("doctor", "--config", "turnout.yaml", "--json", cwd=folder)
    assert done.returncode == 1, done.stdout
    return {row["check"]: row["detail"] for row in json.loads(done.stdout) if not row["ok"]}


def test_doctor_counts_advice_and_points_at_check(tmp_path: Path) -> None:
    assert failing(tmp_path, "server: {port: 0}\n") == {"configuration": "turnout.yaml: 1 finding; `turnout check` shows them"}


def test_doctor_finds_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("not weights")
    text = "server: {port: 0}\nengines: {e: {kind: llamacpp, model: model.gguf}}\nmodels: {chat: {targets: [{engine: e}]}}\n"
    assert list(failing(tmp_path, text)) == ["engine e"]


def test_doctor_finds_that_no_environment_has_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNOUT_HOME", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    text = f"server: {{port: 0}}\nengines: {{e: {{kind: vllm, model: {tmp_path}}}}}\nmodels: {{chat: {{targets: [{{engine: e}}]}}}}\n"
    assert failing(tmp_path, text) == {
        "engine e": "no environment here has vLLM: run `turnout engines install vllm`, or name one's `python`",
    }


def test_doctor_finds_a_state_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file stands where the folder would be")
    told = failing(tmp_path, GOOD + "server: {port: 0}\n")
    assert told == {"state folder": "var cannot be written: name another in state.database"}


def test_doctor_finds_an_address_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = failing(tmp_path, GOOD + f"server: {{port: {port}}}\n")
    assert told == {"address": f"127.0.0.1:{port}: Address already in use; choose another with --port"}


@pytest.mark.parametrize("host", ["192.0.2.1", "nobody.invalid"])
def test_doctor_finds_an_address_that_is_not_this_machines(tmp_path: Path, host: str) -> None:
    assert list(failing(tmp_path, GOOD + f"server: {{host: {host}, port: 0}}\n")) == ["address"]


# --- wrong usage -------------------------------------------------------------------------------------------------------------
WRONG_USAGE = [
    ["check"],
    ["check", "a.yaml", "b.yaml"],
    ["check", "a.yaml", "--jsn"],
    ["chek", "a.yaml"],
    ["init", "a.yaml", "b.yaml"],
    ["init", "--no-such-option"],
    ["config"],
    ["config", "scheme"],
    ["config", "schema", "extra"],
    ["providers", "nobody"],
    ["providers", "groq", "extra"],
    ["doctor", "--config"],
    ["doctor", "extra"],
]


@pytest.mark.parametrize("args", WRONG_USAGE, ids=" ".join)
def test_wrong_usage_exits_2_and_says_how_it_is_meant(tmp_path: Path, args: list[str]) -> None:
    done = turnout(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert ("Usage: turnout" in done.stdout + done.stderr or "Error: " in done.stderr) and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
