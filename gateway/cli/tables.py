"""Tables and text on a terminal, of which callers chose parts."""

from collections.abc import Sequence
from typing import Any

import typer


def print_table(head: Sequence[str], rows: Sequence[Sequence[Any]], nothing: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        typer.echo(nothing)
        return
    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*("-" if cell is None else Text(plain(str(cell))) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=240)
    console.print(table)


def plain(text: str) -> str:
    """Names come from callers: nothing that moves a terminal's cursor goes through."""
    return "".join(char if char.isprintable() else "?" for char in text)
