"""docs/keys.md: its configuration is served, its commands and its request are run as they stand, and its figures are those of the code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from gateway import key_watch
from gateway.admin import edge
from gateway.made_keys import NewKey
from ledger import keys
from tests.gateway.test_command import clean_env, serving

TEXT = (Path(__file__).parents[2] / "docs" / "keys.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.M | re.S)
ADMIN_KEY = "sk-admin-of-the-docs"


def test_the_commands_and_the_request_do_what_the_page_says(tmp_path: Path) -> None:
    (yaml,) = [text for kind, text in BLOCKS if kind == "yaml"]
    commands, curl = [text for kind, text in BLOCKS if kind == "sh"]
    (tmp_path / "turnout.yaml").write_text(yaml + "  port: 0\n")
    env = clean_env(TURNOUT_ADMIN_KEY=ADMIN_KEY, PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", KEY_ID="")

    def run(command: str) -> str:
        done = subprocess.run(["bash", "-ec", command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    for command in commands.splitlines():
        out = run(command)
        if "keys list" in command:
            env["KEY_ID"] = re.findall(r"key_\w{16}", out)[0]
    assert json.loads(run("turnout keys list --json"))[0]["status"] == "revoked"
    with serving(tmp_path, "--config", "turnout.yaml", TURNOUT_ADMIN_KEY=ADMIN_KEY) as (_, printed):
        found = re.search(r"admin API\s+(\S+)", printed)
        assert found is not None
        assert json.loads(run(curl.replace("http://127.0.0.1:8081", found[1])))["key"].startswith(keys.PREFIX)


def test_the_figures_and_the_fields_are_those_of_the_code() -> None:
    assert (key_watch.EVERY_S, keys.MAX_GRACE_S, edge.MAX_BODY_BYTES, keys.PREFIX) == (0.2, 7 * 86_400, 64 << 10, "sk-turnout-")
    table = TEXT.split("| Field of the API |")[1].split("\n\n")[0]
    assert [name for name in NewKey.model_fields if f"`{name}" not in table and name != "team"] == []
