"""What a dialect's encoder is told of the call it answers."""

from typing import Any

import msgspec

from contract.call import Call
from contract.call import Dialect as Name
from providers.wires.port import Answering


def answering(dialect: Name = "openai_chat", *, include_usage: bool = True, target: str = "t0", **fields: Any) -> Answering:
    raws = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    call = Call(request_id="r1", dialect=dialect, model="asked", stream=True, include_usage=include_usage, choices=1, body=b"{}", fields=raws)
    return Answering(call=call, target=target, now_s=1_760_000_000)
