"""vLLM's sleep: its weights go to the machine's memory and its KV cache is dropped, so that the GPU's memory is free; its process stays.

What cannot sleep says 404: it was started without, or there is no GPU. Raises nothing: who neither sleeps nor wakes is to be ended.
"""

from contract.errors import AttemptError
from providers.http.port import Clocks, Endpoint, HttpClient
from providers.local.process import EngineAddress

TAKES_S = 120.0  # weights of 100 GB and more go over PCIe
BODY_LIMIT = 65536
OK = 200


async def fall_asleep(client: HttpClient, address: EngineAddress) -> bool:
    """Whether it sleeps now. Nothing may be running in it."""
    return await _told(client, address, "/sleep?level=1")


async def wake_up(client: HttpClient, address: EngineAddress) -> bool:
    """Whether it is awake now."""
    return await _told(client, address, "/wake_up")


async def _told(client: HttpClient, address: EngineAddress, path: str) -> bool:
    clocks = Clocks(connect_s=5.0, headers_s=TAKES_S, first_token_s=TAKES_S, idle_s=TAKES_S, total_s=TAKES_S)
    endpoint = Endpoint(address.origin, path, ((b"authorization", address.authorization),))
    try:
        response = await client.send(endpoint, b"", clocks)
        await response.read(BODY_LIMIT)
    except AttemptError:
        return False
    return response.status == OK
