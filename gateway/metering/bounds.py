"""The most that a request may use: tokens for its limits, money for its budgets; and the limit that a key puts on an answer's length."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from contract.call import Call, Dialect
from contract.errors import InvalidRequest
from gateway.accounting import tier_asked
from gateway.asking import LIMITS, most_prompt_tokens
from gateway.routes import Route, Target
from ledger.prices import MILLION, most_factor, most_nusd, most_of_a_token, tools_nusd
from policy.residency import Admitted
from policy.rule import Rule

# An answer whose request sets no limit (docs/limits.md says why the two differ):
UNTOLD_TOKENS = 4096  # what its tokens a minute take until it ends; what is beyond, the next minute pays
UNTOLD_MOST = 32_768  # the same for money, which must hold, where the target's context is not smaller
MOST_PICTURE_TOKENS = 16_384  # of money too, for each that is drawn: the largest of gpt-image-2 (3584x2048, high) has 12,329
UNTOLD_CALLS = 5  # of each tool that a provider runs, where the request does not say how often it may be used
OTHERS = frozenset({"code_interpreter", "image_generation", "x_search"})  # beside searches, what providers charge each call or container of
MOST_DIGITS = 9
DRAWING = "/images/generations"
LIMIT_OF: dict[Dialect, str] = {
    "openai_chat": "max_completion_tokens",
    "openai_completions": "max_tokens",
    "openai_responses": "max_output_tokens",
    "anthropic_messages": "max_tokens",
}


class _Tool(msgspec.Struct, frozen=True):
    type: str = ""
    max_uses: int | None = None


_tools, _number = msgspec.json.Decoder(list[_Tool]), msgspec.json.Decoder(int | None)


class ToolCalls(NamedTuple):
    """How often a provider may search the web, and files that it keeps, and run other tools, for one answer."""

    web: int = 0
    files: int = 0
    others: int = 0


NO_CALLS = ToolCalls()
_RUNNING = frozenset({"web_search_options", "tools"})
_CHARGED = _RUNNING | {"service_tier"}  # what a request may cost by, beside its tokens


class Bounds(msgspec.Struct, frozen=True):
    """`likely_tokens`: about what it will use; `most_tokens`: at most. `costs`: for each price of the route's targets nano-dollars at most.

    None in `costs`: the target's price is not known. What costs nothing is 0.
    """

    likely_tokens: int
    most_tokens: int
    costs: tuple[int | None, ...] = ()


NOTHING = Bounds(0, 0)


def bounds_of(call: Call, route: Route, rule: Rule, counts_money: bool) -> Bounds:
    """Of a form whose bytes only a provider reads nothing is known. Raises InvalidRequest."""
    if not call.fields:
        return Bounds(0, 0, tuple(0 if target.owned else None for target in route.priced) if counts_money else ())
    prompt, answer = most_prompt_tokens(call), _answer(call)
    told = UNTOLD_TOKENS if answer is None else answer
    costs: tuple[int | None, ...] = ()
    if counts_money:
        times = 2 if rule.recovery == "continue" else 1  # who goes on with a cut answer reads the prompt once more
        tools, tier = (NO_CALLS, None) if _CHARGED.isdisjoint(call.fields) else (tool_calls_of(call), tier_asked(call))
        most = _pictures(call) * MOST_PICTURE_TOKENS or answer
        for target in route.priced:
            costs += (_cost(target, prompt, most, times, tools, tier),)
    return Bounds(prompt // 4 + told, prompt + told, costs)


def _answer(call: Call) -> int | None:
    """Tokens that all of its choices have at most; None: it does not say."""
    if call.dialect not in LIMIT_OF:
        return 0
    told = told_limit(call)
    return None if told is None else told[1] * call.choices


def _pictures(call: Call) -> int:
    """How many the request has drawn."""
    return call.choices if call.path == DRAWING and call.dialect == "passthrough" else 0


def told_limit(call: Call) -> tuple[str, int] | None:
    """The field that allows most tokens, and how many. Raises InvalidRequest where that is no number of tokens: it could not be relied on."""
    told = None
    for name in LIMITS:
        raw = call.fields.get(name)
        if raw is None or (text := bytes(raw)) == b"null":
            continue
        if not text.isdigit() or len(text) > MOST_DIGITS:
            shown = text[:40].decode(errors="replace")
            raise InvalidRequest(f"`{name}` is {shown}; this key's limits need a whole number of tokens of {MOST_DIGITS} digits at most", param=name)
        most = int(text)
        if told is None or most > told[1]:
            told = name, most
    return told


def tool_calls_of(call: Call) -> ToolCalls:
    """At most, by each tool's `max_uses` and the whole request's `max_tool_calls`; UNTOLD_CALLS where neither is told."""
    if _RUNNING.isdisjoint(call.fields):
        return NO_CALLS
    web = UNTOLD_CALLS if bytes(call.fields.get("web_search_options", b"null")) != b"null" else 0
    files = others = 0
    given = bytes(call.fields.get("tools", b""))
    if b"_search" in given or b"code_interpreter" in given or b"image_generation" in given:
        try:
            tools, most = _tools.decode(given), _number.decode(bytes(call.fields.get("max_tool_calls", b"null")))
        except msgspec.DecodeError:  # whoever is asked says what is wrong with it
            return ToolCalls(web)
        for tool in tools:
            uses = UNTOLD_CALLS if most is None else most
            uses = uses if tool.max_uses is None else max(0, tool.max_uses)
            web += uses if tool.type.startswith("web_search") else 0
            files += uses if tool.type == "file_search" else 0
            others += uses if tool.type in OTHERS else 0
    return ToolCalls(web * call.choices, files * call.choices, others * call.choices)


def _cost(target: Target, prompt: int, answer: int | None, times: int, calls: ToolCalls, tier: str | None) -> int | None:
    price, context = target.price, target.context_tokens
    if target.owned:
        return 0
    if price is None:
        return None
    if context is not None and prompt > context:
        prompt = context  # what exceeds it is refused
    out = min(UNTOLD_MOST, context or UNTOLD_MOST) if answer is None else answer
    if calls is NO_CALLS and not tier and (rates := most_of_a_token(price)) is not None:
        return -(-(prompt * times * rates[0] + out * rates[1]) // MILLION) + price.request_nusd
    tokens, factor = most_nusd(price, prompt * times, out), most_factor(price, tier)
    if tokens is not None and calls is not NO_CALLS:
        tokens += tools_nusd(price.rates, *calls)
    if not tokens or factor == MILLION:
        return tokens
    return None if factor is None else -(-tokens * factor // MILLION)


def dearest(costs: Sequence[int | None], admitted: Admitted) -> int | None:
    """Of the targets that may answer, what the dearest costs at most; 0 where none costs anything. None: of none of them the price is known."""
    most = None
    for kind in admitted.price_kinds:
        cost = costs[kind]
        if cost is not None and (most is None or cost > most):
            most = cost
    return most


def cheapest(costs: Sequence[int | None], admitted: Admitted) -> int:
    """Of those that cost something, the least; 0 where none does."""
    return min((cost for kind in admitted.price_kinds if (cost := costs[kind])), default=0)


def limited(call: Call, most: int) -> Call:
    """The call with a limit on its answer of `most` tokens where it has none. Raises InvalidRequest for one that has a larger one."""
    name = LIMIT_OF.get(call.dialect)
    if name is None:
        return call
    told = told_limit(call)
    if told is not None:
        field, limit = told
        if limit > most:
            raise InvalidRequest(f"`{field}` is {limit}; this key may ask for {most} at most", param=field, code="max_tokens_exceeded")
        return call
    fields = {**call.fields, name: msgspec.Raw(b"%d" % most)}
    start = call.body.index(b"{") + 1
    body = b'%s"%s":%d,%s' % (call.body[:start], name.encode(), most, call.body[start:])
    if name in call.fields:  # it says null
        body = msgspec.json.encode(fields)
    return msgspec.structs.replace(call, fields=fields, body=body)
