"""The `turnout` command. Each verb lives in a module of its own, imported only when the command line is read."""

from gateway.cli.main import main

__all__ = ["main"]
