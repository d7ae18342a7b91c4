"""The clients of the providers' batch APIs, by the configuration; and why one may not be used."""

from typing import NamedTuple

import msgspec
import structlog

from config.settings import ProviderSettings, Settings
from gateway.auth import key_id_of
from gateway.chosen import chosen_of
from gateway.pricing import entry_of
from providers.address import base_url_of
from providers.batch.bedrock import Place
from providers.batch.port import BatchClient, Limits
from providers.batch.session import Channel
from providers.batch.table import Amazon, Setting, batch_client, limits_of
from providers.http.client import PooledClient
from providers.http.httpx_client import HttpxClient
from providers.registry import PROVIDER_KINDS
from providers.sigv4 import Credentials

NO_BUCKET = "its batches need a bucket and a role: `batch.bucket` and `batch.role_arn` of the provider"
NO_SIGNATURE = "its batches need an access key: `credentials` of the provider"
OFF = "the configuration says not to use its batch API"

log = structlog.get_logger("turnout.batches")


class Account(msgspec.Struct, frozen=True):
    """Where a job is kept: it is found again there alone, whatever the configuration says by then. `key_id`: of the key that it was submitted with;
    "": its requests are signed."""

    base_url: str
    key_id: str


def why_not(settings: Settings, route: str, provider: str, model: str) -> str:
    """Why a target's batch API may not be used; "": it may. `route`: the entry of `models` that lists it."""
    entry = entry_of(settings, route, provider, model)
    if not settings.providers[provider].batch.use or (entry is not None and not entry.batch):
        return OFF
    return lack(settings.providers[provider])


def limits_for(provider: ProviderSettings) -> Limits | None:
    """Of its batch API, with the price that is agreed; None: it has none."""
    limits, off = limits_of(PROVIDER_KINDS[provider.kind]), provider.batch.percent_off
    return limits if limits is None or off is None else msgspec.structs.replace(limits, percent_off=off)


def lack(provider: ProviderSettings) -> str:
    """What a provider's settings lack for its batches; "": nothing."""
    if provider.kind != "bedrock":
        return ""
    if provider.credentials is None or provider.credentials.access_key_id is None:
        return NO_SIGNATURE
    return "" if provider.batch.bucket and provider.batch.role_arn else NO_BUCKET


class JobPlace(NamedTuple):
    """Where a job may be kept, and what speaks there."""

    account: Account
    client: BatchClient
    limits: Limits


class Clients:
    """One for each account that is asked for. Whoever made it closes it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._channel: Channel | None = None
        self._made: dict[tuple[str, Account], BatchClient | None] = {}

    def accounts(self, provider: str) -> tuple[Account, ...]:
        """Where new jobs of a provider may be submitted, by its keys in turn; none: it has no batches that may be used."""
        settings = self._settings.providers.get(provider)
        if settings is None or lack(settings) or limits_of(PROVIDER_KINDS[settings.kind]) is None:
            return ()
        base_url = base_url_of(PROVIDER_KINDS[settings.kind], chosen_of(provider, settings))
        return tuple(Account(base_url, key_id_of(key)) for key in settings.keys) or (Account(base_url, ""),)

    def places(self, provider: str, account: Account | None) -> list[JobPlace]:
        """Of a job that was submitted to that account; `account` None: of a new one, in the order of `accounts`."""
        accounts = self.accounts(provider) if account is None else (account,)
        settings = self._settings.providers.get(provider)
        limits = None if settings is None else limits_for(settings)
        return [JobPlace(each, client, limits) for each in accounts if limits is not None and (client := self._of(provider, each)) is not None]

    def _of(self, provider: str, account: Account) -> BatchClient | None:
        if (provider, account) not in self._made:
            self._made[provider, account] = self._make(provider, account)
        return self._made[provider, account]

    def _make(self, name: str, account: Account) -> BatchClient | None:
        if not self.accounts(name):
            return None
        if self._channel is None:
            self._channel = Channel(pages=PooledClient(), files=HttpxClient())
        provider = self._settings.providers[name]
        key = next((text for text in provider.keys if key_id_of(text) == account.key_id), None)
        if key is None and account.key_id:
            log.warning("the key that a provider's job was submitted with is not configured any more", provider=name, key_id=account.key_id)
        chosen = chosen_of(name, provider)
        chosen = msgspec.structs.replace(chosen, base_url=account.base_url, key=chosen.key if key is None else key)
        return batch_client(Setting(kind=PROVIDER_KINDS[provider.kind], chosen=chosen, channel=self._channel, amazon=_amazon(provider)))

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
