"""`turnout serve` with several workers as a real process, and what can be seen of it from outside: its lines, its children, who answers."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2

from ledger.database import open_engine
from ledger.queries import all_attempts
from tests.gateway.test_command import COMMAND, clean_env
from tests.providers.local.conftest import is_gone

LIMIT_S = 40.0  # for what takes a second on a quiet machine
KEY = "sk-test-key"
ENGINE = "engines: {{cpu: {{kind: llamacpp, model: 'builtin:smollm2-135m-instruct', slots: {slots}, threads: 1, context: 512}}}}\n"


async def eventually(holds: Callable[[], Any]) -> Any:
    """Waits until it gives something, and gives that."""
    async with asyncio.timeout(LIMIT_S):
        while not (found := holds()):
            await asyncio.sleep(0.01)
    return found


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""


class Client(httpx2.AsyncClient):
    """One kept connection, and so one worker."""

    def __init__(self, url: str) -> None:
        limits = httpx2.Limits(max_connections=1, max_keepalive_connections=1)
        super().__init__(base_url=url, timeout=60, trust_env=False, limits=limits, headers={"authorization": f"Bearer {KEY}"})

    async def ready(self) -> dict[str, Any]:
        told: dict[str, Any] = (await self.get("/health/ready")).json()
        return told

    async def chat(self, model: str, **fields: Any) -> httpx2.Response:
        return await self.post("/v1/chat/completions", json=question(model, **fields))


def question(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Count to ten."}], **fields}


class Serving:
    """The parent's process; `lines` are its own and its workers' on stderr, those that are JSON; `others`: the rest."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.url = ""
        self.printed = ""
        self.lines: list[dict[str, Any]] = []
        self.others: list[str] = []
        self._clients: list[Client] = []
        self._tasks = [asyncio.create_task(self._read_out()), asyncio.create_task(self._read_log())]

    async def _read_out(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.printed += line.decode()
            if found := re.search(r"base URL\s+(\S+)/v1", self.printed):
                self.url = found[1]

    async def _read_log(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            try:
                self.lines.append(json.loads(line))
            except json.JSONDecodeError:
                self.others.append(line.decode())

    def told(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"].startswith(event)]

    def pids(self) -> dict[int, int]:
        """The process of each place that has listened last."""
        return {line["worker"]: line["pid"] for line in self.told("worker listens")}

    def engines(self) -> list[int]:
        return [pid for pid in children(self.process.pid) if "llamacpp_child" in command_of(pid)]

    def client(self) -> Client:
        self._clients.append(Client(self.url))
        return self._clients[-1]

    async def both(self, each: int = 1) -> dict[int, list[Client]]:
        """So many clients of each of the two workers. New connections go to who has fewer: those too many are kept until all are found."""
        found: dict[int, list[Client]] = {1: [], 2: []}
        async with asyncio.timeout(LIMIT_S):
            while min(map(len, found.values())) < each:
                clients = [self.client() for _ in range(8)]
                for client, told in zip(clients, await asyncio.gather(*(client.ready() for client in clients)), strict=True):
                    found[told["worker"]].append(client)
        for client in (client for clients in found.values() for client in clients[each:]):
            await client.aclose()
        return {place: clients[:each] for place, clients in found.items()}

    def rows(self) -> list[Any]:
        """Every row of the ledger by now."""
        engine = open_engine(f"sqlite:///{self.folder}/turnout.db")
        try:
            return all_attempts(engine)
        finally:
            engine.dispose()

    async def refused(self) -> None:
        """Waits until no new connection is taken."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                try:
                    async with Client(self.url) as client:
                        await client.ready()
                except httpx2.ConnectError:
                    return
                except httpx2.TransportError:  # taken, and not served any more
                    continue

    async def stop(self) -> int:
        """As a service manager does it; the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(LIMIT_S):
            return await self.process.wait()

    async def end(self) -> None:
        for client in self._clients:
            await client.aclose()
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await asyncio.wait(self._tasks)


@contextlib.asynccontextmanager
async def serving(yaml: str, folder: Path, workers: int = 2, ends: int = 0, **env: str) -> AsyncIterator[Serving]:
    """Serves with two workers that both listen, until the block ends; then it ends with that code, and nothing of it is left."""
    text = f"server: {{workers: {workers}}}\n" + (yaml if "state:" in yaml else f"state: {{database: 'sqlite:///{folder}/turnout.db'}}\n{yaml}")
    (folder / "turnout.yaml").write_text(text)
    process = await asyncio.create_subprocess_exec(
        *(COMMAND, "serve", "--port", "0", "--config", "turnout.yaml"),
        cwd=folder,
        env=clean_env(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    gateway = Serving(process, folder)
    try:
        await eventually(lambda: (gateway.url and len(gateway.pids()) == workers) or process.returncode is not None)
        assert process.returncode is None, gateway.lines
        yield gateway
        family = children(process.pid)
        assert await gateway.stop() == ends, gateway.lines
        assert all(map(is_gone, family))
    finally:
        await gateway.end()


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, number)
