"""What an engine's own /health says of it."""

from typing import Literal

from contract.errors import AttemptError, ConnectFailed
from providers.http.port import Clocks, Endpoint, HttpClient
from providers.local.process import EngineAddress

Health = Literal["well", "unwell", "dead", "refused"]
LOST: dict[Health, str] = {"dead": "its server says that its core is dead", "refused": "its server takes no connections"}
BODY_LIMIT = 4096
OK, CORE_DEAD = 200, 503  # vLLM's, of an EngineDeadError; llama.cpp's while it loads, and then nobody is sent to it


async def health(client: HttpClient, address: EngineAddress, limit_s: float) -> Health:
    """What is LOST will not be well again. A server that answers nothing, or late, is unwell: others may keep the processors busy."""
    clocks = Clocks(connect_s=limit_s, headers_s=limit_s, first_token_s=limit_s, idle_s=limit_s, total_s=limit_s)
    try:
        response = await client.send(Endpoint(address.origin, "/health", method="GET"), b"", clocks)
        await response.read(BODY_LIMIT)
    except ConnectFailed as error:
        return "refused" if refused(error) else "unwell"
    except AttemptError:
        return "unwell"
    return "dead" if response.status == CORE_DEAD else "well" if response.status == OK else "unwell"


def refused(error: ConnectFailed) -> bool:
    """Whether nobody listens on the engine's socket any more, which it opened before it was ready. Want of descriptors here says nothing of it."""
    return isinstance(error.__cause__, ConnectionRefusedError | FileNotFoundError)
