"""What a benchmark writes into docs/: text between two markers of a page, and pictures."""

from pathlib import Path

from rig.processes import HERE

DOCS = HERE.parent / "docs"


def between(name: str, text: str, page: Path = DOCS / "performance.md") -> None:
    """Replaces what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`. Raises ValueError where the page lacks them."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} lacks {begin} or {end}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def picture(name: str, svg: str) -> None:
    (DOCS / "images").mkdir(exist_ok=True)
    (DOCS / "images" / name).write_text(svg)
