"""One child process of an engine, from spawn to exit: its orders on stdin, its readiness on stdout, its log on stderr, its end."""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from providers.http.port import Origin
from providers.local.cause import Cause
from providers.local.child import READY
from providers.local.computing import computed_ns
from providers.local.folders import SocketFolder
from providers.local.llamacpp_child import ChildOrders
from providers.local.ray_command import ray_command
from providers.local.spec import EngineKind, EngineSpec, usable_cpus
from providers.local.vllm_child import VllmOrders
from providers.local.vllm_command import environment, serve_command, stage_of

CHILDREN: dict[EngineKind, tuple[str, ...]] = {  # -I: nothing of the working folder or PYTHONPATH gets in
    "llamacpp": (sys.executable, "-I", "-m", "providers.local.llamacpp_child"),
    "vllm": (sys.executable, "-I", "-m", "providers.local.vllm_child"),
    "ray-serve": (sys.executable, "-I", "-m", "providers.local.vllm_child"),  # which runs any server of another Python's
}
MAX_LINE = 2000  # of the engine's log; longer lines are cut
TAIL_LINES = 20
# The gateway's environment holds providers' keys, which are none of an engine's business: only these are handed on.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")

log = structlog.get_logger("turnout.engine")


class EngineAddress:
    """How to reach one child: the same for as long as that child lives, and never again. Its repr hides the key."""

    __slots__ = ("authorization", "generation", "key", "origin")

    def __init__(self, generation: int, socket_path: Path | str, key: str) -> None:
        self.generation = generation
        self.origin = Origin(host="engine", port=80, uds=str(socket_path))
        self.key = key
        self.authorization = f"Bearer {key}".encode()

    def __repr__(self) -> str:
        return f"EngineAddress(generation={self.generation}, uds={self.origin.uds!r})"


class EngineProcess:
    """A child that was spawned. Whoever spawned it ends it, by `end`; that is safe in every state, and needed after its exit too."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, address: EngineAddress, folder: SocketFolder, key: str) -> None:
        self.address = address
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.cause = Cause()
        self._name = name
        self._process = process
        self._folder = folder
        self._key = key
        self.on_stage: Callable[[str], None] = lambda stage: None  # told what its start has come to, as far as its log says it
        self._stderr = asyncio.create_task(self._read_log(), name=f"engine {name} stderr")

    @classmethod
    async def spawn(cls, spec: EngineSpec, generation: int, command: tuple[str, ...] | None = None) -> "EngineProcess":
        """Starts the child in a session of its own, with a new key and a new 0700 folder for its socket. Raises OSError.

        `command` None: the one of its kind.
        """
        folder = SocketFolder()
        key = secrets.token_urlsafe(32)
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *(command or CHILDREN[spec.kind]),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                cwd="/",
                env=_environment(spec),
            )
        )
        try:
            process = await asyncio.shield(starting)
        except asyncio.CancelledError:  # asyncio forgets a child whose start is cancelled
            folder.remove()
            begun = await starting
            begun.kill()
            await begun.communicate()
            raise
        except BaseException:
            folder.remove()
            raise
        child = cls(spec.name, process, EngineAddress(generation, folder.socket, key), folder, key)
        child._send_orders(spec, folder.socket)
        return child

    def _send_orders(self, spec: EngineSpec, socket_path: Path) -> None:
        path, me = str(socket_path), os.getpid()
        orders: ChildOrders | VllmOrders
        if spec.kind != "llamacpp":
            command = serve_command(spec, path) if spec.kind == "vllm" else ray_command(spec, path)
            orders = VllmOrders(socket_path=path, command=command, environment=environment(spec, self._key), parent_pid=me)
        else:
            orders = ChildOrders(
                socket_path=path,
                api_key=self._key,
                model_path=spec.model_path,
                alias=spec.name,
                slots=spec.slots,
                ctx_per_slot=spec.ctx_per_slot,
                threads=spec.threads or usable_cpus(),
                step_tokens=spec.whole_step,
                parent_pid=me,
            )
        assert self._process.stdin is not None  # asked for above
        self._process.stdin.write(msgspec.json.encode(orders) + b"\n")  # stays open: its end tells the child that we are gone

    @property
    def pid(self) -> int:
        return self._process.pid

    async def said_ready(self) -> bool:
        """Waits for the child's word that its server answers; False: stdout ended without it."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            if line == READY:
                return True
        return False

    async def exit_within(self, seconds: float) -> int | None:
        """The exit code (negative: the signal that killed it) as soon as there is one; None when it still runs after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                return await self._process.wait()
        except TimeoutError:
            return None

    def computed_ns(self) -> int | None:
        """The processor time that it has had, with all that it started; None: not known."""
        return computed_ns(self.pid)

    async def exited(self) -> None:
        await self._process.wait()

    def kill(self) -> None:
        """SIGKILL to the child and all that it started."""
        self._signal(signal.SIGKILL)

    async def end(self, grace_s: float) -> int:
        """Ends the whole process group: SIGTERM, SIGKILL after `grace_s`. Reaps it, removes its folder, gives the exit code."""
        try:
            if self._process.returncode is None:
                self._signal(signal.SIGTERM)
                await self.exit_within(grace_s)
        finally:
            self.kill()  # a child that did not end, and whatever it may have started and left behind
            self._folder.remove()
            assert self._process.stdin is not None
            self._process.stdin.close()
        code = await self._process.wait()
        await asyncio.wait([self._stderr], timeout=1.0)
        self._stderr.cancel()
        return code

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone; macOS says EPERM of a group of zombies
            os.killpg(self._process.pid, number)

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        rest = b""
        while data := await self._process.stderr.read(4096):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._log(line)
            rest = rest[:MAX_LINE]
        if rest:
            self._log(rest)

    def _log(self, raw: bytes) -> None:
        line = raw[:MAX_LINE].decode(errors="replace").rstrip().replace(self._key, "[key]")
        if line:
            self.tail.append(line)
            self.cause.add(line)
            if stage := stage_of(line):
                self.on_stage(stage)
            log.warning("engine_stderr", engine=self._name, pid=self.pid, line=line)


def _environment(spec: EngineSpec) -> dict[str, str]:
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return kept if spec.gpus is None else kept | {"CUDA_VISIBLE_DEVICES": ",".join(map(str, spec.gpus))}
