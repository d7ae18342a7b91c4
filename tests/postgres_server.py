"""A real PostgreSQL in a folder of its own, on a port of 127.0.0.1; it can be stopped at once, frozen and started anew."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

WAIT_S = 30.0
PASSWORD = "pg-canary: /@"
AS_TYPED = "pg-canary%3A%20%2F%40"
FAST = ("fsync=off", "full_page_writes=off", "max_connections=60", "shared_buffers=32MB")  # a crash of the machine is not tested


def programs() -> Path:
    """Debian keeps them out of the way."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    path = str(found[-1]) if found else shutil.which("initdb")
    if path is None:
        pytest.skip("PostgreSQL is not installed here, and could not be (scripts/install_servers.sh says why)")
    return Path(path).parent


class PostgresServer:
    """Whoever starts it stops it. It refuses to be root: then it is the package's user `postgres`."""

    def __init__(self) -> None:
        self._programs = programs()
        self._folder = Path(tempfile.mkdtemp(prefix="turnout-pg-", dir="/tmp"))  # a folder that another user may enter
        # It ends with the thread that started it: a session that is killed leaves no server behind.
        self._as = ["setpriv", "--pdeathsig=QUIT", *(("--reuid=postgres", "--regid=postgres", "--clear-groups") if os.getuid() == 0 else ())]
        if os.getuid() == 0:
            shutil.chown(self._folder, "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        password = self._folder / "password"
        password.write_text(PASSWORD)
        self._run("initdb", "-D", str(self._folder / "data"), "-U", "turnout", "-A", "scram-sha-256", f"--pwfile={password}", "-N", "-E", "UTF8")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([*self._as, str(self._programs / program), *arguments], cwd=self._folder, check=True, stdout=subprocess.DEVNULL, timeout=60)

    def start(self) -> "PostgresServer":
        options = [
            word
            for option in (*FAST, f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self._folder}")
            for word in ("-c", option)
        ]
        command = [*self._as, str(self._programs / "postgres"), "-D", str(self._folder / "data"), *options]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + WAIT_S
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
                return self
            except psycopg.OperationalError:
                assert self._process.poll() is None and time.monotonic() < until, (self._folder / "log").read_text()
                time.sleep(0.02)

    def url(self, database: str) -> str:
        return f"postgresql://turnout:{AS_TYPED}@127.0.0.1:{self.port}/{database}"

    def database(self, template: str = "template0") -> str:
        """The URL of a new one."""
        self._made += 1
        name = f"turnout_{self._made}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return self.url(name)

    def kill(self) -> None:
        """At once: what was not committed is gone. Idempotent."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(WAIT_S)
            self._process = None

    def signal_all(self, number: signal.Signals) -> None:
        """The server and all its children, whose groups are their own: it takes connections and answers nothing, or goes on."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            os.kill(pid, number)

    def end(self) -> None:
        self.kill()
        shutil.rmtree(self._folder)


def rows(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """What another program sees there."""
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []
