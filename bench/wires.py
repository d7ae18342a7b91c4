"""What the OpenAI chat wire costs: microseconds a request or event for peeking, rewriting, tapping and decoding.

python bench/wires.py
"""

import time
from collections.abc import Callable

from compare import HERE

from contract.call import Call
from gateway.peek import read_chat_call
from providers.wires.openai_chat import OPENAI_CHAT

EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" word"},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
)
ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"'
    + b"word " * 180
    + b'"},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":180,"prompt_tokens_details":{"cached_tokens":0}}}'
)


def us(work: Callable[[], object], rounds: int, per: int = 1) -> float:
    """The best of five, in microseconds for one of `per`."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(rounds):
            work()
        best = min(best, time.perf_counter() - began)
    return best / rounds / per * 1e6


def tap(call: Call, pieces: list[bytes]) -> None:
    watching = OPENAI_CHAT.stream_tap(call, True)
    for piece in pieces:
        watching.feed(piece)


def main() -> None:
    small, large = (HERE / "bodies/chat_d0.json").read_bytes(), (HERE / "bodies/chat_100k.json").read_bytes()
    call, big = read_chat_call("r", small), read_chat_call("r", large)
    decoder_pieces = [EVENT] * 100
    rows = [
        ("peek, small request", us(lambda: read_chat_call("r", small), 5000)),
        ("peek, 100 KB request", us(lambda: read_chat_call("r", large), 300)),
        ("rewrite, small request", us(lambda: OPENAI_CHAT.rewrite_request(call, "other", stream=True, ask_usage=True), 5000)),
        ("rewrite, 100 KB request", us(lambda: OPENAI_CHAT.rewrite_request(big, "other", stream=True, ask_usage=True), 300)),
        ("check a 1 KB unary answer", us(lambda: OPENAI_CHAT.read_unary(ANSWER), 5000)),
        ("tap an event, each in its own read", us(lambda: tap(call, decoder_pieces), 200, 100)),
        ("tap an event, 20 in a read", us(lambda: tap(call, [EVENT * 20] * 5), 200, 100)),
        ("decode an event to the contract", us(lambda: [OPENAI_CHAT.stream_decoder(1).feed(EVENT * 100)], 50, 100)),
        ("decode a small request in full", us(lambda: OPENAI_CHAT.decode_request(small), 2000)),
    ]
    for name, value in rows:
        print(f"{name:<36} {value:8.2f} us")


if __name__ == "__main__":
    main()
