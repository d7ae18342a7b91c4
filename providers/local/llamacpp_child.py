"""The engine's child process: llama.cpp's own HTTP server on a unix socket. Run as `python -I -m providers.local.llamacpp_child`.

It is told what to do by one JSON line on stdin (so that the key is in no argument list and no environment), says
`{"ready": true}` on stdout once its server answers, and ends on SIGTERM, at the end of stdin, and with its parent.
"""

import contextlib
import os
import signal
import sys

import msgspec

from providers.local.child import READY, Terminated, die_with, remove_socket, settle_in, terminate, wait_until_it_answers

# Looks of a compute thread at whether the others are done, some microseconds, before it sleeps until they are; OpenMP's own are 300,000, in which
# whoever else has work gets no processor. Measured with 2 threads on 2 processors: 12 tokens are read in 47 to 52 ms, and in 58 to 62 with 100 looks,
# where nobody else has work; beside others that keep both busy 8 are read as fast as with 100, for an eighth more processor time; with 3,000 slower.
SPINS = "1000"
# Of a prompt, that a slot must hold for it to have that slot; below, it takes the one unused the longest. With 0.1, llama.cpp's own, a system prompt
# that all share was enough, and two prompts that came in turn overwrote each other in one slot while the other stood unused.
SAME_PROMPT = 0.5
LOG_WARNINGS = 2  # llama.cpp's log levels: 1 errors, 2 warnings, 3 information, prompts among it


class ChildOrders(msgspec.Struct, frozen=True, kw_only=True):
    """What the child reads from stdin. `ctx_per_slot`, `step_tokens` in tokens."""

    socket_path: str
    api_key: str
    model_path: str
    alias: str
    slots: int
    ctx_per_slot: int
    threads: int
    step_tokens: int
    parent_pid: int


def main() -> None:
    ready = settle_in()
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=ChildOrders)
    die_with(orders.parent_pid)
    remove_socket(orders.socket_path)
    server = _serve(orders)  # noqa: F841 - lives as long as we do
    signal.signal(signal.SIGTERM, terminate)  # before this line SIGTERM simply kills: a model being loaded has nothing to tidy up
    with contextlib.suppress(Terminated):
        os.chmod(orders.socket_path, 0o600)  # noqa: PTH101
        wait_until_it_answers(orders.socket_path)
        os.write(ready, READY)
        while sys.stdin.buffer.read(4096):
            pass
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    remove_socket(orders.socket_path)
    os._exit(0)  # not `del server`: measured, llama.cpp may take 30 s to end with a stream open, and there is nothing to save


def _serve(orders: ChildOrders) -> object:
    """Loads the model and listens. Imports the engine here: the gateway imports this module for `ChildOrders` alone."""
    os.environ["GOMP_SPINCOUNT"] = SPINS  # read when its library is loaded
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = orders.model_path
    params.model_alias = {orders.alias}
    params.hostnames = [orders.socket_path]
    params.api_keys = [orders.api_key]
    params.n_parallel = orders.slots
    params.n_ctx = orders.ctx_per_slot * orders.slots  # the whole, which llama.cpp divides among the slots
    params.n_batch = params.n_ubatch = orders.step_tokens
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = orders.threads
    params.slot_prompt_similarity = SAME_PROMPT
    params.cache_ram_mib = 0  # 8 GiB by default, of prompts kept beside the slots: measured, it grew by 460 MiB in 60 requests
    params.cache_idle_slots = False  # needs that cache
    params.fit_params = False  # never a smaller context than was asked for
    params.endpoint_slots = params.endpoint_metrics = True
    params.ui = False
    params.verbosity = LOG_WARNINGS
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:  # its log on stderr says why
        sys.exit(f"llama.cpp did not start: {error}")


if __name__ == "__main__":
    main()
