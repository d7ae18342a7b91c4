"""The clients of the providers' batch APIs, by the configuration; and why one may not be used."""

from config.settings import ProviderSettings, Settings
from gateway.chosen import chosen_of
from gateway.pricing import entry_of
from providers.batch.bedrock import Place
from providers.batch.port import BatchClient
from providers.batch.session import Channel
from providers.batch.table import Amazon, Setting, batch_client, limits_of
from providers.http.client import PooledClient
from providers.http.httpx_client import HttpxClient
from providers.registry import PROVIDER_KINDS
from providers.sigv4 import Credentials

NO_BUCKET = "its batches need a bucket and a role: `batch.bucket` and `batch.role_arn` of the provider"
NO_SIGNATURE = "its batches need an access key: `credentials` of the provider"
OFF = "the configuration says not to use its batch API"


def why_not(settings: Settings, route: str, provider: str, model: str) -> str:
    """Why a target's batch API may not be used; "": it may. `route`: the entry of `models` that lists it."""
    entry = entry_of(settings, route, provider, model)
    if not settings.providers[provider].batch.use or (entry is not None and not entry.batch):
        return OFF
    return lack(settings.providers[provider])


def lack(provider: ProviderSettings) -> str:
    """What a provider's settings lack for its batches; "": nothing."""
    if provider.kind != "bedrock":
        return ""
    if provider.credentials is None or provider.credentials.access_key_id is None:
        return NO_SIGNATURE
    return "" if provider.batch.bucket and provider.batch.role_arn else NO_BUCKET


class Clients:
    """One for each provider that is asked for. Whoever made it closes it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._channel: Channel | None = None
        self._made: dict[str, BatchClient | None] = {}

    def of(self, provider: str) -> BatchClient | None:
        """None: there is no such provider, or it has no batches that may be used."""
        if provider not in self._made:
            self._made[provider] = self._make(provider)
        return self._made[provider]

    def _make(self, name: str) -> BatchClient | None:
        provider = self._settings.providers.get(name)
        if provider is None or lack(provider) or limits_of(PROVIDER_KINDS[provider.kind]) is None:
            return None
        if self._channel is None:
            self._channel = Channel(pages=PooledClient(), files=HttpxClient())
        kind, chosen = PROVIDER_KINDS[provider.kind], chosen_of(name, provider)
        return batch_client(Setting(kind=kind, chosen=chosen, channel=self._channel, amazon=_amazon(provider)))

    async def aclose(self) -> None:
        if self._channel is not None:
            await self._channel.pages.aclose()
            await self._channel.files.aclose()


def _amazon(provider: ProviderSettings) -> Amazon | None:
    given, told = provider.credentials, provider.batch
    if given is None or given.access_key_id is None or given.secret_access_key is None or told.bucket is None or told.role_arn is None:
        return None
    token = given.session_token
    credentials = Credentials(given.access_key_id, given.secret_access_key.get_secret_value(), token.get_secret_value() if token else None)
    place = Place(bucket=told.bucket, prefix=told.prefix, role_arn=told.role_arn)
    urls = {name: url for name, url in (("control_url", told.control_url), ("bucket_url", told.bucket_url)) if url is not None}
    return Amazon(credentials=credentials, place=place, **urls)
