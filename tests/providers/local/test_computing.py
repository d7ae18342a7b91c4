"""The processor time of a process group, of real processes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from providers.local.computing import computed_ns

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells")


def test_it_grows_while_a_process_of_the_group_computes_and_stands_still_while_it_is_stopped() -> None:
    child = subprocess.Popen([sys.executable, "-I", "-c", "while True: pass"], start_new_session=True)
    try:
        seen = computed_ns(child.pid)
        while computed_ns(child.pid) == seen:
            time.sleep(0.01)
        os.killpg(child.pid, signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert computed_ns(child.pid) == computed_ns(child.pid) != seen
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def test_it_is_not_known_of_a_group_that_is_not_there() -> None:
    assert computed_ns(2**22 + 1) is None
