"""docs/adding-a-provider.md: its ten lines are added to the registry as it says, and requests go through a gateway that has them."""

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import msgspec
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from providers.registry import ProviderKind
from tests.config.files import KNOWN, loaded
from tests.gateway.upstream import Upstream, completion
from tests.test_structure import PACKAGES, ROOT

TEXT = (ROOT / "docs" / "adding-a-provider.md").read_text()
(LINES,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)
(YAML,) = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)
MAIN = "from gateway.cli.main import main; main()"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages whose registry has the document's lines."""
    tree = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    registry = tree / "providers" / "registry.py"
    mark = "PROVIDER_KINDS: dict[str, ProviderKind] = {\n"
    registry.write_text(registry.read_text().replace(mark, mark + LINES))
    return tree


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY") and not name.startswith("TURNOUT_")} | more


@pytest.fixture
async def url(tree: Path, one: Upstream) -> AsyncIterator[str]:
    """The base URL of a gateway that runs from the copy, with a provider of the new kind."""
    (tree / "turnout.yaml").write_text(f"""
providers: {{acme: {{kind: acme, base_url: "{one.base_url}", api_key: "${{ACME_API_KEY}}"}}}}
models: {{"acme/*": {{targets: [{{provider: acme, model: "*"}}]}}}}
teams: {{all: {{keys: [sk-client]}}}}
""")
    command = [sys.executable, "-c", MAIN, "serve", "--config", "turnout.yaml", "--port", "0"]
    process = await asyncio.create_subprocess_exec(*command, cwd=tree, env=environment(ACME_API_KEY="sk-acme"), stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    printed = ""
    while "curl" not in printed:
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        assert line, printed
        printed += line.decode()
    found = re.search(r"base URL\s+(\S+)/v1", printed)
    assert found
    yield found[1]
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 30) == 0


def test_the_row_is_ten_lines_and_the_document_tells_of_each_of_its_members() -> None:
    assert len(LINES.splitlines()) == 10
    table = re.findall(r"^\| `(\w+)` \|", TEXT, re.M)
    assert sorted(table) == sorted(field.name for field in msgspec.structs.fields(ProviderKind))


def test_the_way_without_a_row_loads_with_nothing_to_say(tmp_path: Path) -> None:
    assert "acme" not in KNOWN.provider_kinds
    assert loaded(tmp_path, YAML.encode(), {"ACME_API_KEY": "sk-acme"}).advice == []


async def test_requests_in_several_dialects_go_through_with_the_rows_facts(url: str, one: Upstream) -> None:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-client", max_retries=0) as client:
        chat = await client.chat.completions.create(model="acme/large", messages=[{"role": "user", "content": "Hi"}], max_completion_tokens=9, seed=1)
    async with AsyncAnthropic(base_url=url, api_key="sk-client", max_retries=0) as claude:
        message = await claude.messages.create(model="acme/large", max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
    assert chat.choices[0].message.content == completion()["choices"][0]["message"]["content"] == message.content[0].text  # type: ignore[union-attr]
    for seen in one.journal:
        assert (seen.head[":path"], seen.head["authorization"]) == ("/v1/chat/completions", "Bearer sk-acme")
        assert seen.body["model"] == "large" and seen.body["max_tokens"] == 9 and "max_completion_tokens" not in seen.body


async def test_what_the_row_says_it_lacks_is_refused_by_name(url: str, one: Upstream) -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}
    body = {"model": "acme/large", "max_tokens": 9, "messages": [{"role": "user", "content": [image]}]}
    async with httpx2.AsyncClient(trust_env=False) as http:
        got = await http.post(f"{url}/v1/messages", json=body, headers={"x-api-key": "sk-client"})
    assert got.status_code == 400 and "image" in got.json()["error"]["param"] and one.journal == []


async def test_the_command_line_lists_the_new_kind(tree: Path) -> None:
    command = [sys.executable, "-c", MAIN, "providers", "acme", "--json"]
    process = await asyncio.create_subprocess_exec(*command, cwd=tree, env=environment(), stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    (row,) = json.loads(out)
    assert (row["key"], row["renames"], row["capabilities"]["images"]) == ("ACME_API_KEY", {"max_completion_tokens": "max_tokens"}, False)
