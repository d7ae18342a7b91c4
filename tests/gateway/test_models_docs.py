"""docs/models.md: its commands are run as they stand, against a hub on the loopback; and what they say of models is there for engines."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.main import app
from providers.local.environment import KINDS
from providers.local.fit.gpus import GPUS
from providers.local.fit.quantization import QUANTIZATIONS
from providers.local.weights import resolve_model
from tests.gateway.test_command import clean_env
from tests.providers.local.fit.test_checkpoint import smollm2_shapes, write_safetensors
from tests.providers.local.models.hub_server import Hub, serving
from tests.providers.local.models.test_pull import FILES

TEXT = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
BLOCKS = [text for _, text in re.findall(r"^```(sh)\n(.*?)^```", TEXT, re.M | re.S)]
REPO = "HuggingFaceTB/SmolLM2-135M-Instruct"
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if "engines install" not in line]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    """Each command of the page, in its order, in one folder."""
    folder = tmp_path_factory.mktemp("models")
    write_safetensors(folder / "weights", smollm2_shapes())
    done = {}
    with serving(Hub(FILES | {"model.safetensors": (folder / "weights").read_bytes()}, REPO)) as hub:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = clean_env(HOME=str(folder), XDG_DATA_HOME="", HF_ENDPOINT=hub.endpoint, PATH=path)
        for command in COMMANDS:
            done[command] = subprocess.run(["bash", "-ec", command], cwd=folder, env=env, capture_output=True, text=True, timeout=100)
    return done


def test_every_command_of_the_page_does_what_it_says(ran: dict[str, subprocess.CompletedProcess[str]]) -> None:
    failed = {command: done.stderr for command, done in ran.items() if done.returncode}
    assert not failed
    pulled = ran[f"turnout models pull hf:{REPO}"].stdout
    assert f"hf:{REPO} is here; in a configuration: model: " in pulled and f"/.local/share/turnout/models/hf/{REPO}" in pulled
    rows = {row["name"]: row["state"] for row in json.loads(ran["turnout models list --json"].stdout)}
    assert rows == {"builtin:smollm2-135m-instruct": "installed", f"hf:{REPO}": "here"}
    assert ran[f"turnout models remove hf:{REPO}"].stdout == f"hf:{REPO} is removed\n"


def test_fit_shows_its_arithmetic(ran: dict[str, subprocess.CompletedProcess[str]]) -> None:
    told = next(done.stdout for command, done in ran.items() if "--gpu" in command)
    assert "KV cache: 30 layers x 3 KV heads x (64 + 64) x 8 bit = 11,520 bytes a token" in told
    assert "- weights 0.15 GiB - one step's results" in told
    gguf = next(done.stdout for command, done in ran.items() if "fit builtin:" in command)
    assert "134,515,008, counted in the GGUF file" in gguf and "23,040 bytes a token" in gguf


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["engines", "fit", "builtin:smollm2-135m-instruct", "--memory", "0.2"], 1, "lacks"),
        (["engines", "fit", "nowhere"], 1, "is no folder with a config.json"),
        (["engines", "fit", "x", "--gpu", "h10"], 2, "did you mean `h100`?"),
        (["engines", "fit", "x", "--quantization", "fp8_per_tensr"], 2, "did you mean `fp8_per_tensor`?"),
        (["engines", "install", "llamacpp"], 2, "has no environment of its own"),
        (["engines", "install", "vllm", "--python", "/no/python"], 1, "/no/python cannot be started"),
        (["models", "pull", "hf:nobody"], 1, "is no model's name"),
        (["models", "remove", "hf:org/none"], 1, "was not pulled"),
        (["models", "fetch"], 2, "No such command"),
    ],
)
def test_what_cannot_be_done_says_so_and_exits_with_its_code(tmp_path: Path, args: list[str], code: int, says: str) -> None:
    done = CliRunner().invoke(app, args, env={"TURNOUT_HOME": str(tmp_path)})
    assert done.exit_code == code and says in done.output and "Traceback" not in done.output


def test_a_model_that_lies_elsewhere_is_taken_off_the_list_and_said_to_stay(tmp_path: Path) -> None:
    place, env = str(resolve_model("builtin:smollm2-135m-instruct")), {"TURNOUT_HOME": str(tmp_path)}
    pulled = CliRunner().invoke(app, ["models", "pull", place], env=env)
    assert pulled.exit_code == 0, pulled.output
    done = CliRunner().invoke(app, ["models", "remove", place], env=env)
    assert done.stdout == f"{place} is off the list; its files stay where they are, in {place}\n"
    assert Path(place).exists()


def test_the_page_names_every_gpu_quantization_and_size_of_the_code() -> None:
    assert [name for name in (*GPUS, *QUANTIZATIONS) if f"`{name}`" not in TEXT] == []
    assert all(f"{kind.disk // 1_000_000_000} GB" in TEXT for kind in KINDS.values())
