"""The gateway's side of `executor: ray`: the process that keeps its workers on the cluster, started anew when it ends."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import structlog

from config.document import expanded
from config.tenancy import RayActorSettings

KEEPS = str(Path(__file__).with_name("ray_actors.py"))
TURNOUT = (sys.executable, "-I", "-c", "from gateway.cli import main; main()")
PAUSE_S, MOST_PAUSE_S = 1.0, 60.0
STOP_S = 90.0
LAST_WORDS, WORD_LENGTH = 20, 300  # lines that are told of one that ended

log = structlog.get_logger("turnout.batches")


class RayLauncher:
    """Whoever keeps it stops it."""

    def __init__(self, settings: RayActorSettings) -> None:
        self._settings = settings
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._words: deque[str] = deque(maxlen=LAST_WORDS)

    def keep(self) -> None:
        """Starts it, where it is not yet."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="batch actors")

    async def stop(self) -> None:
        """Its workers give their rows back and end, within bounds."""
        self._stopping = True
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await process.wait()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _command(self) -> tuple[str, ...]:
        settings = self._settings
        config = str(expanded(settings.config).absolute())
        orders = {
            "address": settings.address,
            "actors": settings.actors,
            "cpus": settings.cpus,
            "gpus": settings.gpus,
            "folder": f"{settings.folder}/{blake2b(config.encode(), digest_size=6).hexdigest()}",
            "command": [*TURNOUT, "serve", "--config", config, "--host", "127.0.0.1", "--port", "0"],
        }
        return (str(expanded(settings.python)), KEEPS, json.dumps(orders))

    async def _run(self) -> None:
        pause_s = PAUSE_S
        while not self._stopping:
            try:
                if await self._once():
                    pause_s = PAUSE_S
            except OSError as exc:
                log.error("the Ray actors of batches cannot be started", error=exc.strerror)
            if self._stopping:
                return
            log.error("the Ray actors of batches ended; they are started anew", pause_s=pause_s, last_words="\n".join(self._words))
            await asyncio.sleep(pause_s)
            pause_s = min(MOST_PAUSE_S, pause_s * 2)

    async def _listen(self, errors: asyncio.StreamReader) -> None:
        while piece := await errors.read(1 << 16):
            for line in piece.decode(errors="replace").splitlines():
                if line.strip():
                    self._words.append(line[:WORD_LENGTH])

    async def _once(self) -> bool:
        """From its start to its end; whether actors ran."""
        env = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
        process = self._process = await asyncio.create_subprocess_exec(*self._command(), stdin=PIPE, stdout=PIPE, stderr=PIPE, env=env)
        assert process.stdout is not None and process.stderr is not None
        self._words.clear()
        listening, ran = asyncio.create_task(self._listen(process.stderr), name="batch actors' words"), False
        try:
            async for line in process.stdout:
                with suppress(ValueError, KeyError, TypeError):
                    actors = json.loads(line)["actors"]
                    ran = ran or actors > 0
                    log.info("batch actors", running=actors, of=self._settings.actors)
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await asyncio.wait([listening], timeout=1.0)  # its children may keep the pipe open
            listening.cancel()
            self._process = None
        return ran
