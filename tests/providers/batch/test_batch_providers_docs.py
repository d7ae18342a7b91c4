"""docs/batch-providers.md says of states and limits what the code has."""

import re
from pathlib import Path

import pytest

from providers.batch import anthropic, bedrock, gemini, mistral, openai_files, together
from providers.batch.port import HOUR_S, JobState, Limits
from providers.batch.table import LIMITS

DOC = (Path(__file__).parents[3] / "docs/batch-providers.md").read_text()
STATES: dict[str, dict[str, JobState]] = {
    "OpenAI, Azure, Groq": openai_files.STATES,
    "Mistral": mistral.STATES,
    "Together": together.STATES,
    "Anthropic": anthropic.STATES,
    "Gemini (`BATCH_STATE_…`)": gemini.STATES,
    "Bedrock": bedrock.STATES,
}


def table(title: str) -> list[list[str]]:
    """The rows of the first table below a heading, its head first."""
    lines = DOC.partition(f"\n## {title}\n")[2].splitlines()
    rows = [line for line in lines[: next((n for n, line in enumerate(lines) if line.startswith("## ")), None)] if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if not row.startswith("|---")]


def number(text: str) -> int:
    return int(text.replace(",", ""))


def test_every_state_is_named_as_the_code_maps_it() -> None:
    head, *rows = table("States")
    for column, mapping in STATES.items():
        named = {}
        for row in rows:
            for word in row[head.index(column)].split(", "):
                if word and not word.startswith(("ended", "with ")):
                    named[word] = row[0].strip("`")
        assert named == mapping, column


@pytest.mark.parametrize(("name", "limits"), LIMITS.items(), ids=LIMITS)
def test_every_limit_is_told_as_the_code_keeps_it(name: str, limits: Limits) -> None:
    row = next(row for row in table("Limits, windows, prices") if row[0] == name)
    rows, _, least = row[1].partition(", at least ")
    assert (number(rows), number(row[2]), number(least or "1")) == (limits.rows, limits.size, limits.min_rows)
    assert {endpoint.replace(" ", "/") for endpoint in row[3].split(", ")} == {each.removeprefix("/v1/") for each in limits.endpoints}
    hours = [int(n) * (24 if unit.startswith("day") else 1) for n, unit in re.findall(r"(\d+) (h|days)", row[4])]
    assert (min(hours) * HOUR_S, max(hours) * HOUR_S) == limits.windows_s
    assert ("late ones go on" in row[4]) == (not limits.expires)
    assert row[5] == (f"{limits.percent_off} %" if limits.percent_off is not None else "by model")


def test_every_provider_has_its_sources_and_its_way_of_being_found() -> None:
    for title in ("Finding a job again", "Where the facts are from"):
        assert {name for row in table(title)[1:] for name in row[0].split(", ")} == set(LIMITS)
