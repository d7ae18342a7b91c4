"""A plan made from the form of an earlier one is the plan that would have been made without, and its decision is told in the same words."""

from functools import partial
from random import Random

import msgspec
import pytest

from policy.ask import Ask
from policy.decision import decision
from policy.plan import Plan, plan
from policy.predict import Live
from policy.residency import Admitted, Rates, admit
from policy.reuse import ReusablePlan, plan_or_reuse
from policy.rule import Objective, Rule, Slo
from policy.slack import Miss
from tests.policy.targets import NOW, Fed, state

RULES = (
    Rule(),
    Rule(name="slo", slo=Slo(ttft_s=0.3, deadline_s=4.0)),
    Rule(name="local", fallback="local", slo=Slo(deadline_s=4.0)),
    Rule(name="none", fallback="none"),
    Rule(name="cheap", objective="cheapest", slo=Slo(ttft_s=0.3)),
    Rule(name="capped", max_nusd=400_000),
    Rule(name="fast", objective="fastest"),
    Rule(name="explores", slo=Slo(ttft_s=0.3), explore=0.9),
    Rule(name="eu", residency=("eu",)),
)
MISS = Miss(5.0, 100_000.0)


def targets(count: int, draw: Random) -> list[Fed]:
    made = []
    for index in range(count):
        rates = draw.choice((None, Rates(500.0, 2000.0, 50.0), Rates(100.0, 900.0, 100.0, 5.0)))
        more = {"region": draw.choice(("", "eu")), "context_tokens": draw.choice((None, None, 3000)), "weight": draw.choice((None, None, None, 2.0))}
        made.append(Fed(f"target%{index}", rates, ttft_s=draw.choice((0.1, 0.4)), samples=draw.choice((0, 1, 30)), cached=0.3, **more))
    return made


class World:
    """Some targets that change, and requests at them."""

    def __init__(self, seed: int) -> None:
        self.draw = Random(seed)
        self.targets = targets(self.draw.choice((1, 1, 2, 3)), self.draw)
        self.now = NOW
        candidates = tuple(each.candidate(index) for index, each in enumerate(self.targets))
        self.admitted = {rule.name: admit(rule, candidates) for rule in RULES}

    def change(self) -> None:
        draw, target = self.draw, self.draw.choice(self.targets)
        match draw.randrange(12):
            case 0:
                target.answered(draw.choice((0.1, 0.5)), 0.01, 150, draw.random() < 0.7)
            case 1:
                target.stats.failed(self.now, streamed=True, code="upstream_error", limited=False, paid=True)
            case 2:
                self.now += draw.choice((0.1, 0.6, 10.0))
            case 3:
                target.now(ready_at=self.now + 5.0, busy="not ready: rate limited, or its keys are set aside")
            case 4:
                target.now(wait_s=0.2)
            case 5:
                target.now()

    def ask(self, number: int) -> Ask:
        draw = self.draw
        made = Ask(f"req-{number}", draw.random() < 0.7, draw.choice((10, 800, 900, 990, 6000)), draw.choice((None, 50)))
        change = {
            0: {"warm": {"target%0": 500}},
            1: {"needs": frozenset({"tools"})},
            2: {"bound_to": "target%0"},
            3: {"planned": "target%0"},
            4: {"batch": True},
            5: {"choices": 2},
        }
        return msgspec.structs.replace(made, **change.get(draw.randrange(30), {}))

    def moment(self, rule: Rule, ask: Ask) -> tuple[Rule, Ask, Admitted, list[Live], float, bool, Miss]:
        admitted = self.admitted[rule.name]
        live = [state(self.targets[each.index], ask, self.now) for each in admitted.allowed]
        return rule, ask, admitted, live, self.now, rule.explore > 0 and len(live) > 1, MISS


@pytest.mark.parametrize("seed", range(60))
def test_a_plan_in_a_form_is_the_plan_without_it(seed: int) -> None:
    world = World(seed)
    for number in range(120):
        world.change()
        ask = world.ask(number)
        moment = world.moment(world.draw.choice(RULES), ask)
        made, form = plan_or_reuse(*moment)
        assert made == plan(*moment)
        if form is not None:
            told = decision(moment[0], ask, made, "chat")
            assert msgspec.json.encode(form.told(ask, made, "chat")) == msgspec.json.encode(told)


def of_two(objective: Objective = "ordered", **rule: object) -> partial[tuple[Plan, ReusablePlan | None]]:
    """Plans over two targets that are well, for a prompt of so many tokens."""
    pair = [Fed("one", Rates(500.0, 2000.0, 50.0)), Fed("two", Rates(100.0, 900.0, 100.0))]
    given = Rule(objective=objective, **rule)
    admitted = admit(given, tuple(each.candidate(index) for index, each in enumerate(pair)))

    def made(prompt_tokens: int) -> tuple[Plan, ReusablePlan | None]:
        ask = Ask(f"req-{prompt_tokens}", True, prompt_tokens)
        return plan_or_reuse(given, ask, admitted, [state(each, ask) for each in pair], NOW)

    return partial(made)


def test_requests_of_other_lengths_share_a_form_and_pay_their_own_price() -> None:
    made = of_two()
    (first, form), (second, again) = made(900), made(990)
    assert form is not None and again is form
    assert [each.reason for each in first.attempts] == [each.reason for each in second.attempts]
    assert first.attempts[0].prediction.list_nusd != second.attempts[0].prediction.list_nusd


def test_requests_of_the_same_length_share_the_plan() -> None:
    made = of_two()
    assert made(900)[0] is made(900)[0]


@pytest.mark.parametrize("rule", [{"objective": "cheapest"}, {"objective": "fastest"}, {"max_nusd": 10**9}])
def test_where_a_price_or_a_draw_may_decide_there_is_no_form(rule: dict[str, object]) -> None:
    assert of_two(**rule)(900)[1] is None
