"""`turnout chat`: talk to the embedded engine in the terminal; no gateway needs to run."""

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from contract.errors import TurnoutError


def register(app: typer.Typer) -> None:
    @app.command()
    def chat(
        prompt: Annotated[str | None, typer.Argument(help="one question; without it, a conversation")] = None,
        model: Annotated[str, typer.Option(help="builtin:NAME or the path of a GGUF file")] = "builtin:smollm2-135m-instruct",
        max_tokens: Annotated[int, typer.Option(min=1, help="longest answer")] = 512,
        as_json: Annotated[bool, typer.Option("--json", help="print one JSON object an answer")] = False,
    ) -> None:
        """Talk to the embedded engine."""
        try:
            asyncio.run(_converse(prompt, model, max_tokens, as_json))
        except TurnoutError as error:
            typer.echo(f"the engine could not answer: {error.message}", err=True)
            raise typer.Exit(1) from error
        except ValueError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error


async def _converse(prompt: str | None, model: str, max_tokens: int, as_json: bool) -> None:
    from gateway import logs
    from gateway.conversation import Conversation

    logs.configure(logging.WARNING)

    async with Conversation(model, max_tokens) as conversation:
        questions = [prompt] if prompt is not None else _asked(as_json)
        for question in questions:
            answer = []
            async for text in conversation.ask(question):
                answer.append(text)
                if not as_json:
                    typer.echo(text, nl=False)
            typer.echo(json.dumps({"question": question, "answer": "".join(answer)}) if as_json else "")


def _asked(quiet: bool) -> Iterator[str]:
    """Lines from the terminal, or from what is piped in, until the end or an empty line."""
    terminal = sys.stdin.isatty() and not quiet
    if terminal:
        typer.echo("SmolLM2-135M on this machine. An empty line ends the conversation.")
    while True:
        if terminal:
            typer.echo("> ", nl=False)
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield line
