"""What a request would see at a target: how likely it begins in time, when it ends, what it costs. A pure function of what was measured.

The time to the first token is looked up as it was measured for prompts of that length at that load, the engine's queue added. The length
of the answer is the model's own habit below the client's limit. The price is the effective one: cached input is cheaper, and failures
that cost money even so are paid for beside.
"""

from collections.abc import Sequence

import msgspec

from policy.ask import Ask
from policy.forecast import KNOWN, Forecast
from policy.prediction import Outlook, Prediction
from policy.residency import Allowed
from policy.rule import NO_SLO, Slo
from policy.slack import CONFIDENT

WAITS = (0.182, 0.693, 1.792)  # a queue's waits, in means: of an exponential distribution the middle of each third
TYPICAL_OUTPUT = 300.0  # tokens, of an answer whose model has no history
MOST_MEMOS = 100  # outlooks kept with one forecast: clients may ask for any max_tokens
TYPICAL_TOKEN_S = 0.05  # what a unary answer's tokens may take each, where only its begin is promised and nothing shows when that is


class Live(msgspec.Struct, frozen=True, gc=False):
    """A target at this moment. `ready_at`: when it may be tried (monotonic seconds; not after now: at once), `busy` says why not before.

    `wait_s`: the expected wait in its queue. `load`: requests that run there; `slots`: that can; 0: not known.
    """

    forecast: Forecast
    ready_at: float = 0.0
    busy: str = ""
    wait_s: float = 0.0
    load: int = 0
    slots: int = 0


def predict(ask: Ask, target: Allowed, live: Live, slo: Slo, typical_output: float, asked: int) -> Prediction:
    """`typical_output`: tokens of an answer where this target has no history of its own. `asked`: `asked_of(ask, slo)`."""
    return predict_all(ask, ((target, live),), slo, typical_output, asked)[0][1]


def predict_all(
    ask: Ask, targets: Sequence[tuple[Allowed, Live]], slo: Slo, typical_output: float, asked: int, known: Sequence[Outlook] = ()
) -> list[tuple[Allowed, Prediction]]:
    """Of each. `known`: the outlooks, where they were worked out before from these forecasts, for the same question."""
    prompt_tokens, choices = float(ask.prompt_tokens), float(ask.choices)  # an int times a float takes three times as long
    warm, batch, found = ask.warm, ask.batch, []
    for place, (target, live) in enumerate(targets):
        forecast = live.forecast
        if known:
            seen = known[place]
        elif live.wait_s or forecast.output_mean is None:
            seen = _outlook(ask, live, slo, typical_output)
        elif (found_before := forecast.memo.get(asked)) is not None:
            seen = found_before
        else:
            seen = _kept(ask, live, slo, typical_output, asked)
        output, cost, listed, effective = seen.output_tokens, None, None, None
        if (rates := target.rates) is not None:
            cached: float = warm.get(target.name, 0) if warm else 0.0
            if (share := forecast.cache_share) is not None and (usual := prompt_tokens * share) > cached:
                cached = usual
            into = rates.input
            listed = prompt_tokens * into + output * rates.output * choices + rates.request
            cost = listed - cached * (into - rates.cache_read)
            if batch:
                cost *= target.batch_factor
            effective = cost * forecast.waste_factor
            if target.owned:
                cost = listed = None  # nothing more for one request more; its share of the engine's own cost is not known, as in the ledger
        made = Prediction(
            seen.p,
            seen.meets,
            seen.ttft_s,
            seen.ttft_p95_s,
            seen.finish_s,
            seen.finish_p95_s,
            seen.tokens_per_s,
            output,
            cost,
            effective,
            listed,
            forecast.samples,
        )
        found.append((target, made))
    return found


def asked_of(ask: Ask, slo: Slo) -> int:
    """What an outlook depends on beside its forecast: the same number for the same question."""
    return hash((slo, ask.max_tokens))


def _kept(ask: Ask, live: Live, slo: Slo, typical_output: float, asked: int) -> Outlook:
    memo = live.forecast.memo
    if len(memo) >= MOST_MEMOS:
        memo.clear()
    made = memo[asked] = _outlook(ask, live, slo, typical_output)
    return made


def _outlook(ask: Ask, live: Live, slo: Slo, typical_output: float) -> Outlook:
    forecast, wait_s = live.forecast, live.wait_s
    output = forecast.expected_output(ask.max_tokens)
    if output is None:
        output = typical_output if ask.max_tokens is None else min(typical_output, ask.max_tokens)
    ttft_s = ttft_p95_s = finish_s = finish_p95_s = None
    token_s = forecast.token_s_mean
    if ask.streamed:
        if (mean_s := forecast.ttft_mean_s) is not None:
            ttft_s, ttft_p95_s = wait_s + mean_s, wait_s + max(mean_s, forecast.ttft_p95_s or 0.0)
            if token_s is not None:
                finish_s, finish_p95_s = ttft_s + output * token_s, ttft_p95_s + output * (forecast.token_s_p95 or token_s)
    elif (total_s := forecast.total_mean_s) is not None:
        total_p95_s = forecast.total_p95_s or total_s
        if token_s is not None and output < 0.99 * (forecast.output_mean or 0.0):  # what the limit cuts off takes no time
            total_s = min(total_s, output * token_s)
            total_p95_s = max(total_s, min(total_p95_s, (ask.max_tokens or output) * (forecast.token_s_p95 or token_s)))
        ttft_s = finish_s = wait_s + total_s
        ttft_p95_s = finish_p95_s = wait_s + total_p95_s
    p = _likelihood(ask, live, slo, output, finish_s, finish_p95_s)
    meets = slo == NO_SLO or (p is not None and p >= CONFIDENT)
    return Outlook(p, meets, ttft_s, ttft_p95_s, finish_s, finish_p95_s, 1.0 / token_s if token_s else None, output)


def _likelihood(ask: Ask, live: Live, slo: Slo, output: float, finish_s: float | None, finish_p95_s: float | None) -> float | None:
    """How likely all of the SLO is met; None: too little is known, or nothing is promised.

    A target that was not asked for long is taken to do as it did where that was well. Where it was not, it may be over: that is not known.
    """
    if slo == NO_SLO:
        return None
    if slo.ttft_s is not None and live.wait_s >= slo.ttft_s:
        return 0.0  # the queue alone takes longer: no measurement is needed
    if not ask.streamed and live.forecast.samples < KNOWN <= live.forecast.begins_samples and slo.ttft_s is not None:
        begins = _begins_in_time(ask, live, slo, slo.ttft_s, output, finish_s)  # as its streamed answers show, before it gave a unary one
        p = None if begins is None else begins * (1.0 - live.forecast.failing)
        if p is not None and (p < CONFIDENT or (slo.tokens_per_s is None and slo.deadline_s is None)):
            return p
    p = _odds(ask, live, slo, output, finish_s, finish_p95_s)
    return None if p is not None and p < CONFIDENT and live.forecast.samples < KNOWN else p


def _odds(ask: Ask, live: Live, slo: Slo, output: float, finish_s: float | None, finish_p95_s: float | None) -> float | None:
    """By what was measured, however long ago."""
    forecast = live.forecast
    if forecast.samples < KNOWN and not forecast.remembered:
        return None
    p = 1.0 - forecast.failing
    if slo.ttft_s is not None:
        in_time = _begins_in_time(ask, live, slo, slo.ttft_s, output, finish_s)
        if in_time is None:
            return None
        p *= in_time
    if slo.tokens_per_s is not None:
        if not forecast.token_s_mean:
            return None
        p *= _soft(1.0 / forecast.token_s_mean / slo.tokens_per_s)
    if slo.deadline_s is not None:
        if finish_p95_s is None:
            return None
        p *= _soft(slo.deadline_s / finish_p95_s)
    return p


def _begins_in_time(ask: Ask, live: Live, slo: Slo, ttft_s: float, output: float, finish_s: float | None) -> float | None:
    """A unary answer's first token is nobody's to see: the target's streamed answers show when it comes. Where too few of these are known, the
    whole answer may take as long as its tokens would, beside.
    """
    forecast, wait_s = live.forecast, live.wait_s
    waits, allowed_s, shorter = forecast.waits, ttft_s, 1.0
    if not ask.streamed and forecast.begins is not None:
        waits = forecast.begins
    elif not ask.streamed:
        if forecast.output_mean is not None:  # else its answers have no tokens: vectors, pictures
            allowed_s += output / (slo.tokens_per_s or 1 / TYPICAL_TOKEN_S)
        if finish_s is not None and forecast.total_mean_s:  # than those that were measured, by a limit of the request's own
            shorter = max(0.01, (finish_s - wait_s) / forecast.total_mean_s)
    if waits is None:
        return None
    waits_s = [each * wait_s for each in WAITS] if wait_s else [0.0]
    in_time = [within for each in waits_s if (within := waits.within((allowed_s - each) / shorter)) is not None]
    return sum(in_time) / len(in_time) if in_time else None


def _soft(ratio: float) -> float:
    """1 when what is predicted is enough; below CONFIDENT, and falling, when it is not."""
    return 1.0 if ratio >= 1.0 else ratio * 0.9
