"""Which requests may be answered from the cache, what makes two of them the same, and which answers are kept. Pure."""

import re
import time

import msgspec

from cache.flight import Tape
from cache.key import Asked, key_of
from cache.port import MAX_ANSWER, Entry
from contract.head import HeaderList
from gateway.accounting import settled_whole
from gateway.job import Giving, Job
from gateway.metering.bounds import dearest
from gateway.planner import admitted_by
from ledger.prices import cost_nusd
from policy.rule import Rule

MAX_BODY = 1 << 20  # bytes of a request that is looked up: what reading it again costs is bounded
UNFINISHED = frozenset({"openai_embeddings", "anthropic_count_tokens"})  # whose answers say nothing of why they end
OF_ONE_REQUEST = frozenset(
    {
        b"x-request-id",
        b"x-turnout-attempts",
        b"x-turnout-decision",
        b"x-turnout-overhead-ms",
        b"x-turnout-ttft-ms",
        b"x-turnout-cost-usd",
        b"x-turnout-cache",
        b"x-turnout-degraded",
    }
)
# A call of a tool, as any of the dialects writes it; in a string of the answer's text the quotes would be escaped.
_CALLS = re.compile(
    rb'"(?:tool_calls|function_call)"\s*:\s*(?:\[\s*[^\]\s]|\{\s*[^}\s])'
    rb'|"type"\s*:\s*"(?:(?:server_|mcp_)?tool_use|[a-z0-9_]*_call)"'
)
_OTHER_ENDS = re.compile(rb'"finish_reason"\s*:\s*"(?!stop")')


def generation(rule: Rule) -> bytes:
    """What of a rule makes its answers its own: all but the deadline, which says when an answer comes and not which."""
    return msgspec.json.encode(msgspec.structs.replace(rule, slo=msgspec.structs.replace(rule.slo, deadline_s=None)))


def asked(job: Job) -> Asked | None:
    """What the request's key is made of; None: it is not to be answered from the cache, nor its answer kept."""
    call = job.call
    if call.dialect == "passthrough" or len(call.body) > MAX_BODY or job.bound_to is not None or call.continues is not None:
        return None
    if "store" in call.fields or "background" in call.fields or wants_fresh(job.headers):
        return None
    route = job.route
    return Asked(
        organisation=job.principal.organisation,
        team=job.principal.team,
        endpoint=call.path,
        dialect=call.dialect,
        route=(route.name, call.model, *(target.label for target in route.targets)),
        generation=generation(job.rule),
        headers=call.headers,
        fields=call.fields,
    )


def key_for(job: Job) -> bytes | None:
    found = asked(job)
    return None if found is None else key_of(found)


def wants_fresh(headers: HeaderList) -> bool:
    return any(name == b"cache-control" and (b"no-cache" in value.lower() or b"no-store" in value.lower()) for name, value in headers)


def owner_of(job: Job) -> str:
    return f"{job.principal.organisation}/{job.principal.team}"


def saved_by(job: Job) -> int | None:
    """What the answer of a request cost, in nano-dollars; None: that is not known, or it is not whole."""
    giving = job.giving
    if giving is None or not giving.whole:
        return None
    exchange = giving.exchange
    return cost_nusd(giving.attempt.target.price, settled_whole(job.call, exchange.usage, job.prompt_tokens, exchange.tokens_seen))


def entry_of(job: Job, tape: Tape) -> Entry | None:
    """The answer as it is kept; None: it is not to be given to anybody else."""
    giving = job.giving
    if giving is None or not giving.whole or giving.seams or not tape.ended or not tape.kept or tape.status != 200 or _could_not_afford(job):
        return None
    body = b"".join([piece for _, piece in tape.pieces])
    if len(body) > MAX_ANSWER or not _is_plain(job, giving, body):
        return None
    began = tape.pieces[0][0] if tape.pieces else 0.0
    cuts, end = [], 0
    for came, piece in tape.pieces:
        end += len(piece)
        cuts.append((end, int((came - began) * 1e3)))
    return Entry(
        owner=owner_of(job),
        request_id=job.call.request_id,
        target=giving.attempt.target.label,
        headers=shared(tape.headers),
        body=body,
        cuts=tuple(cuts),
        made_at=time.time(),
        cost_nusd=saved_by(job),
    )


def _could_not_afford(job: Job) -> bool:
    """A budget left the dearest of its targets out: who can afford them is not given what it had to make do with."""
    affordable = job.affordable
    return affordable is not None and affordable.most_nusd < (dearest(affordable.costs, admitted_by(job.rule, job.route)) or 0)


def shared(headers: HeaderList) -> tuple[tuple[bytes, bytes], ...]:
    """Those that say something of the answer, and not of the request that it was made for."""
    return tuple([pair for pair in headers if pair[0] not in OF_ONE_REQUEST and not pair[0].startswith(b"x-ratelimit-")])


def _is_plain(job: Job, giving: Giving, body: bytes) -> bool:
    """It came to its own end, and calls no tool: what a tool does may not be done again by everybody who asks."""
    finish = giving.exchange.finish
    if job.call.dialect not in UNFINISHED and (finish is None or finish.reason != "stop"):
        return False
    if job.call.choices > 1 and _OTHER_ENDS.search(body) is not None:
        return False
    return _CALLS.search(body) is None
