"""Every cell of the fault table, over real sockets: streamed and unary, with a fallback, without, and with `recovery: hold`.

Where the failing target speaks another dialect than the caller, so that its answer is translated, the same must be seen.
"""

from collections.abc import Mapping

import pytest
import uvloop

from tests.faults.dialects import CHAT, DIALECTS, MESSAGES, RESPONSES, Speech
from tests.faults.document import PATH, document
from tests.faults.play import play
from tests.faults.rows import Cell, Mode, Plan, Row
from tests.faults.table import TABLE


def played(cell: Cell) -> bool:
    """A unary answer is held whole anyway, so that `hold` is played for it in one dialect only."""
    if cell.mode == "stream":
        return cell.speech.streams
    return cell.plan != "hold" or cell.speech.NAME == "chat"


def crosses(row: Row) -> bool:
    return not (row.heavy or row.begun)


NATIVE = [
    Cell(row, speech, mode, plan) for row in TABLE for speech in DIALECTS if speech.NAME in row.dialects for mode in row.modes for plan in row.plans
]
FROM: list[tuple[Speech, Speech]] = [(CHAT, MESSAGES), (MESSAGES, CHAT), (RESPONSES, CHAT)]  # type: ignore[list-item]
ACROSS: list[tuple[Mode, Plan]] = [("stream", "fallback"), ("unary", "fallback"), ("stream", "hold")]
TRANSLATED = [
    Cell(row, client, mode, plan, target)
    for row in filter(crosses, TABLE)
    for client, target in FROM
    if client.NAME in row.dialects
    for mode, plan in ACROSS
    if mode in row.modes
]
CELLS = sorted([*filter(played, NATIVE), *TRANSLATED], key=lambda cell: -cell.expect.elapsed[1])  # who waits longest begins first


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[str]]:
    """Only the cells that were chosen are played, all in one run."""
    chosen = {item.callspec.params["cell"].name for item in request.session.items if hasattr(item, "callspec") and "cell" in item.callspec.params}
    cells = [cell for cell in CELLS if cell.name in chosen]
    return dict(zip([cell.name for cell in cells], uvloop.run(play(cells, tmp_path_factory.mktemp("faults"))), strict=True))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name.replace(" ", "_"))
def test_a_cell_of_the_fault_table_is_as_written(found: Mapping[str, list[str]], cell: Cell) -> None:
    assert not found[cell.name], f"{cell.name}: {'; '.join(found[cell.name])}"


def test_the_document_says_what_the_table_does() -> None:
    assert PATH.read_text() == document(), "run `make faults`"
