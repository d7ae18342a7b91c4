"""`python -m tests.matrix`: runs the matrix and writes docs/matrix.md. Exit 1 when a cell failed."""

import sys
import tempfile
from pathlib import Path

import uvloop

from tests.matrix.cells import outcomes
from tests.matrix.document import PATH, document

with tempfile.TemporaryDirectory() as folder:
    found = uvloop.run(outcomes(Path(folder)))
failed = {key: cell.detail for key, cell in found.items() if cell.kind == "failed"}
for key, why in failed.items():
    print(*key, why)
if not failed:
    PATH.write_text(document(found))
    print(f"{PATH}: {len(found)} cells")
sys.exit(1 if failed else 0)
