"""A call and who asks it, as the job that the pipeline runs: its route, the rule that holds for it, what its key bounds, what it is bound to."""

import msgspec

from contract.call import Call
from contract.errors import AttemptsExhausted, InvalidRequest, TurnoutError, UnsupportedField, UpstreamRejected
from contract.head import HeaderList
from gateway.auth import Principal, no_such_model
from gateway.binding import resolve
from gateway.client import Receiver
from gateway.endpoints import InferenceEndpoint
from gateway.job import Job
from gateway.metering.bounds import limited
from gateway.overrides import overridden
from gateway.prompt_cache import own_prompt_key
from gateway.routes import Route
from gateway.runtime import Runtime
from policy.rule import Rule
from providers.wires.table import DIALECTS


def route_of(runtime: Runtime, call: Call, principal: Principal) -> Route:
    """Raises ModelNotFound, also for a model that the caller may not use."""
    route = runtime.routes.find(call.model)
    if route is None:
        raise no_such_model(call.model)
    principal.require_route(route.name, call.model)
    return route


def bounded(runtime: Runtime, call: Call, principal: Principal, headers: HeaderList) -> tuple[Route, Rule, Call]:
    """What holds for the call, and the call as its key lets it be. Raises RequestError for one that its key may not make."""
    route = route_of(runtime, call, principal)
    rule, call = overridden(principal.rule or route.rule, call, headers, principal, runtime.rules)
    if principal.max_nusd is not None:
        rule = runtime.caps.capped(rule, principal.max_nusd)
    if principal.max_tokens is not None:
        call = limited(call, principal.max_tokens)
    return route, rule, call


def job_of(runtime: Runtime, endpoint: InferenceEndpoint, call: Call, principal: Principal, client: Receiver, headers: HeaderList) -> Job:
    """To be bound by `bind` where `may_be_bound` says so. Raises RequestError."""
    route, rule, call = bounded(runtime, call, principal, headers)
    if not runtime.keys.one_team:
        call = msgspec.structs.replace(own_prompt_key(call, principal.team), flow=principal.flow)
    elif principal.flow.priority == "batch":
        call = msgspec.structs.replace(call, flow=principal.flow)
    return Job(call, endpoint.name, principal, route, rule, client, endpoint.words, headers=headers)


async def bind(job: Job, runtime: Runtime) -> None:
    """To the target that alone understands what its call holds of earlier answers. Raises InvalidRequest, LedgerUnavailable."""
    bound = await resolve(job.call, job.principal.team, job.route, runtime.continuity, runtime.keys.one_team)
    job.call, job.bound_to = bound.call, bound.target


def name_the_fault(call: Call, error: TurnoutError) -> None:
    """Where a provider refused the request without naming a field, decoding it in full names the one whose type is wrong. Off the hot path."""
    dialect = DIALECTS.get(call.dialect)
    if dialect is None or not isinstance(error, AttemptsExhausted) or not isinstance(error.last, UpstreamRejected) or error.param is not None:
        return
    try:
        dialect.decode_request(call.body)
    except UnsupportedField:
        return  # unknown to us is not wrong
    except InvalidRequest as fault:
        error.message, error.param = fault.message, fault.param
