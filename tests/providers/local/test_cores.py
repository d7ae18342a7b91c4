"""vLLM's core and workers, as real processes that bear their names."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from providers.local.computing import PROC, members
from providers.local.cores import Cores

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells")
# No shell begins another program, which would have its title for a moment.
GROUP = """
import os, signal, subprocess, sys
begins, forks = "echo begun; read line; :", "exec 3<&0; (echo begun; read line <&3; :) & wait"
for title, program in (("VLLM::APIServer", begins), ("VLLM::EngineCore", begins), ("VLLM::Worker_TP1", forks)):
    child = subprocess.Popen([title, "-c", program], executable="/bin/sh", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()  # before that the kernel may not show its name yet
print("begun", flush=True)
signal.pause()
"""


@pytest.fixture
def group() -> Iterator[int]:
    parent = subprocess.Popen([sys.executable, "-I", "-c", GROUP], start_new_session=True, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline() == b"begun\n"
        yield parent.pid
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()


def pid_of(group: int, title: str) -> int:
    found = subprocess.run(["ps", "-eo", "pid=,pgid=,args="], capture_output=True, text=True, check=True).stdout
    return next(int(line.split()[0]) for line in found.splitlines() if line.split()[1] == str(group) and line.split()[2] == title)


def until_it_says(look: object) -> str:
    """What it says first; fails the test after ten seconds."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if (said := look()) is not None:  # type: ignore[operator]
            return str(said)
    raise AssertionError("it said nothing")


def test_those_that_compute_are_found_and_no_server(group: int) -> None:
    assert sorted(Cores.of(group).titles) == ["VLLM::EngineCore", "VLLM::Worker_TP1"]
    assert Cores.of(2**22 + 1).titles == ()


def test_what_a_core_has_forked_is_no_core(group: int) -> None:
    bearers = [each for each in members(group) if (PROC / str(each) / "cmdline").read_bytes().startswith(b"VLLM::Worker_TP1")]
    assert len(bearers) == 2 and Cores.of(group).titles.count("VLLM::Worker_TP1") == 1


def test_one_that_ended_is_told_reaped_or_not(group: int) -> None:
    cores = Cores.of(group)
    assert cores.gone() is None
    os.kill(pid_of(group, "VLLM::Worker_TP1"), signal.SIGKILL)
    assert until_it_says(cores.gone) == "its process VLLM::Worker_TP1 ended"


def test_one_that_is_stopped_for_long_is_told_and_one_that_went_on_is_not(group: int) -> None:
    cores, core = Cores.of(group), pid_of(group, "VLLM::EngineCore")
    assert cores.stopped(0.0, 0.0) is None
    os.kill(core, signal.SIGSTOP)
    assert until_it_says(lambda: cores.stopped(0.0, 0.0)) == "hung: its process VLLM::EngineCore was stopped for 0 s"
    assert cores.stopped(2.9, 3.0) is None
    assert cores.stopped(3.0, 3.0) is not None
    os.kill(core, signal.SIGCONT)
    while cores.stopped(3.0, 3.0) is not None:
        time.sleep(0.01)
    os.kill(core, signal.SIGSTOP)
    until_it_says(lambda: cores.stopped(5.0, 0.0))
    assert cores.stopped(7.9, 3.0) is None


def test_none_that_computes_nothing_is_still_unless_it_ought_to_answer(group: int) -> None:
    cores = Cores.of(group)
    assert cores.still(0.0, 10.0, answering=False) is None
    assert cores.still(20.0, 10.0, answering=False) is None
    said = [cores.still(now, 10.0, answering=True) for now in (20.0, 25.0, 29.9, 30.0)]
    assert said[:3] == [None] * 3
    assert said[3] == "hung: requests ran in it, and it computed nothing for 10 s"
    assert cores.still(31.0, 10.0, answering=False) is None, "they were answered"
    assert cores.still(41.0, 10.0, answering=True) is None


def test_of_no_core_nothing_is_said() -> None:
    cores = Cores()
    assert [cores.gone(), cores.stopped(9.0, 0.0), cores.still(0.0, 0.0, answering=True), cores.still(9.0, 0.0, answering=True)] == [None] * 4
