"""A generated week in a ledger: real plans (policy/) over targets whose behaviour is known, each attempt a row, as the gateway writes them.

The truth about another policy is another run over the same requests, with the same luck: what a replay says of it can be held against that.
"""

from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from sqlalchemy import Engine

from bench.policy.scenarios import CHEAP, MIDDLE, PREMIUM, Scenario, but, day, traffic, usd
from bench.policy.simulate import Attempt, Job, Result, Simulation
from bench.policy.strategies import Ours
from bench.policy.world import Chance, Request, Target
from contract.usage import Usage
from ledger.database import open_engine
from ledger.prices import Price, cost_nusd, override_price
from ledger.row import AttemptRow
from ledger.writer import GroupWriter
from policy.decision import decision
from policy.rule import Rule, Slo

DAY_S = 86_400.0
DAYS = 7
MODEL = "chat"
TEAMS = ("search", "search", "search", "support", "support", "trial")  # of six requests
CODES = {"upstream_error": "upstream_error", "timeout": "upstream_timeout", "rate_limited": "upstream_rate_limited"}
SLO = Slo(ttft_s=1.0, deadline_s=30.0)
SLOTS = 2
BUDGET_USD = 1.5  # of the first team, for a day
AT_ONCE = 2_000
TARGETS = (
    but(PREMIUM, name="premium/large"),
    but(MIDDLE, name="middle/medium", rates=usd(0.8, 3.2, 0.08), swing=day(DAY_S, 1.0, 1.6), error_share=0.01),
    but(CHEAP, name="cheap/small", swing=day(DAY_S, 1.0, 2.2), verbosity=1.3),
    Target("cpu", 0.25, 0.020, 0.10, slots=SLOTS),
)
PRICES = {"premium/large": (2.5, 10.0, 2.5), "middle/medium": (0.8, 3.2, 0.08), "cheap/small": (0.3, 1.2, 0.3)}  # USD a million


@dataclass(frozen=True, slots=True)
class Policy:
    """As the configuration has it, and as the policy package does. `targets`: in their order; `weights`: their shares."""

    written: str
    rule: Rule
    targets: tuple[Target, ...] = TARGETS
    weights: tuple[float, ...] = ()


PREMIUM_, MIDDLE_, CHEAP_, CPU = TARGETS
PROMISE = "slo: {ttft_p95_ms: 1000, deadline_ms: 30000}"
POLICIES = {
    "spread": Policy("{objective: ordered}", Rule("spread"), weights=(3, 3, 2, 2)),
    "fast": Policy(f"{{objective: fastest, {PROMISE}, explore: 0.05}}", Rule("fast", "fastest", slo=SLO, explore=0.05)),
    "frugal": Policy(f"{{objective: cheapest, {PROMISE}}}", Rule("frugal", "cheapest", slo=SLO, explore=0.02)),
    "cheap-first": Policy("{objective: ordered}", Rule("cheap-first"), (CHEAP_, MIDDLE_)),
    "own-first": Policy("{objective: ordered}", Rule("own-first"), (CPU, PREMIUM_)),
}


def config(name: str) -> str:
    """turnout.yaml for the week under one of POLICIES."""
    policy = POLICIES[name]
    listed = []
    for place, target in enumerate(policy.targets):
        share = f", weight: {policy.weights[place]:g}" if policy.weights else ""
        provider, _, model = target.name.partition("/")
        if target.slots:
            listed.append(f"      - {{engine: {provider}{share}}}")
            continue
        price = "price: {{input_usd_per_mtok: {}, output_usd_per_mtok: {}, cache_read_usd_per_mtok: {}}}".format(*PRICES[target.name])
        listed.append(f"      - {{provider: {provider}, model: {model}, {price}{share}}}")
    engine = f'  cpu: {{kind: llamacpp, model: "builtin:smollm2-135m-instruct", slots: {SLOTS}, context: 65536}}'
    return "\n".join(
        [
            'state: {database: "sqlite:///turnout.db"}',
            "providers:",
            *(f'  {name}: {{kind: openai-compatible, base_url: "http://127.0.0.1:9100/v1"}}' for name in ("premium", "middle", "cheap")),
            *(["engines:", engine] if CPU in policy.targets else []),
            "models:",
            f"  {MODEL}:",
            f"    policy: {name}",
            "    targets:",
            *listed,
            "policies:",
            f"  {name}: {policy.written}",
            "teams:",
            f"  search: {{keys: [sk-search], budget: {{usd: {BUDGET_USD}, window: day}}}}",
            "  support: {keys: [sk-support]}",
            "  trial: {keys: [sk-trial]}",
            "",
        ]
    )


@dataclass(frozen=True, slots=True)
class Week:
    """About so many requests of three teams, most of them at noon; `days`: a week, or less of one."""

    requests: int
    seed: int = 1
    days: float = DAYS

    @property
    def seconds(self) -> float:
        return self.days * DAY_S

    def scenario(self, policy: Policy) -> Scenario:
        made = traffic(self.seed, self.seconds, self.requests / self.seconds, day(DAY_S, 0.3, 1.7))
        return Scenario("week", "a week of three teams", policy.targets, made, SLO)

    def record(self, folder: Path, name: str, ends_us: int) -> "Truth":
        """Makes `folder`/turnout.db, whose last request comes before `ends_us` (Unix time), and the turnout.yaml that was in force."""
        (folder / "turnout.yaml").write_text(config(name))
        ledger = open_engine(f"sqlite:///{folder}/turnout.db")
        run = Recording(self, POLICIES[name], ends_us, ledger)
        run.run()
        ledger.dispose()
        return run.truth

    def truth(self, name: str) -> "Truth":
        """What a policy would really have come to."""
        run = Recording(self, POLICIES[name], 0)
        run.run()
        return run.truth


@dataclass(slots=True)
class Truth:
    """What really came of a policy. `first`: requests by whom they asked first; `ttft_s`: of those that were answered."""

    result: Result
    first: dict[str, int] = field(default_factory=dict)
    ttft_s: list[float] = field(default_factory=list)

    @property
    def cost_usd(self) -> float:
        return self.result.cost_nusd / 1e9

    @property
    def p95_ttft_ms(self) -> float:
        return sorted(self.ttft_s)[len(self.ttft_s) * 95 // 100] * 1000


class Recording(Simulation):
    """A run whose attempts become rows, where there is a ledger."""

    def __init__(self, week: Week, policy: Policy, ends_us: int, ledger: Engine | None = None) -> None:
        self.rule = policy.rule
        super().__init__(week.scenario(policy), lambda told, world: Ours(policy.rule, told, world, policy.weights), Chance(week.seed))
        self._origin_us = ends_us - int(week.seconds * 1e6)
        self._writer = None if ledger is None else GroupWriter(ledger)
        self._rows: list[AttemptRow] = []
        self._numbers: dict[int, int] = {}
        self._prices: dict[str, Price] = {name: override_price(*each) for name, each in PRICES.items()}
        self.truth = Truth(self.result)

    def run(self) -> Result:
        result = super().run()
        self._flush()
        return result

    # --- as it happens ----------------------------------------------------------------------------------------------------
    def _attempt(self, now: float, job: Job, index: int, counted: bool = True) -> None:
        super()._attempt(now, job, index, counted)
        self._numbers[id(job.running[-1])] = job.made
        if job.made == 1:
            name = self._scenario.targets[index].name
            self.truth.first[name] = self.truth.first.get(name, 0) + 1

    def _end(self, now: float, job: Job, attempt: Attempt) -> None:
        super()._end(now, job, attempt)
        self.truth.ttft_s.append(attempt.began + attempt.outcome.ttft_s - job.request.at)
        self._row(now, job, attempt)

    def _fail(self, now: float, job: Job, attempt: Attempt) -> None:
        self._row(now, job, attempt)
        super()._fail(now, job, attempt)

    # --- rows -------------------------------------------------------------------------------------------------------------
    def _row(self, now: float, job: Job, attempt: Attempt) -> None:
        number = self._numbers.pop(id(attempt))
        if self._writer is None:
            return
        target, request, outcome = self._scenario.targets[attempt.index], job.request, attempt.outcome
        provider, _, model = target.name.partition("/")
        answered = outcome.failure is None
        cold_tokens = request.prompt_tokens - outcome.cached_tokens
        usage = Usage(cold_tokens, outcome.cached_tokens, output_visible=outcome.output_tokens) if answered else None
        ttft_s = attempt.began + outcome.ttft_s - request.at
        self._rows.append(
            AttemptRow(
                request_id=request.id,
                attempt=number,
                started_at_us=self._origin_us + int(attempt.began * 1e6),
                team=team_of(request),
                key_id="key",
                endpoint="chat.completions",
                stream=True,
                model_asked=MODEL,
                route=MODEL,
                target=provider,
                model_sent=model or provider,
                status="ok" if answered else "failed",
                reason="fallback" if number > 1 else "first",
                error_code=None if outcome.failure is None else CODES[outcome.failure],
                queue_us=int(outcome.wait_s * 1e6),
                first_token_us=int(outcome.ttft_s * 1e6) if answered else None,
                end_us=int((now - attempt.began) * 1e6),
                usage=usage,
                cost_nusd=cost_nusd(self._prices.get(target.name), usage),
                bytes_request=request.prompt_tokens * 4,
                billed="team" if answered else "gateway",
                prompt_tokens_estimated=request.estimated_tokens,
                policy=self.rule.name,
                slo_met=SLO.kept(ttft_s, now - request.at, outcome.output_tokens) if answered else None,
                engine_prefill_us=int((outcome.ttft_s - outcome.wait_s) * 1e6) if target.slots and answered else None,
                decision=self._decision(job) if number == 1 else None,
            )
        )
        if len(self._rows) >= AT_ONCE:
            self._flush()

    def _decision(self, job: Job) -> object:
        assert job.choice.ask is not None and job.choice.plan is not None
        return decision(self.rule, job.choice.ask, job.choice.plan, MODEL)

    def _flush(self) -> None:
        if self._writer is not None and self._rows:
            self._writer.write(self._rows)
            self._rows = []


def team_of(request: Request) -> str:
    return TEAMS[crc32(request.id.encode()) % len(TEAMS)]
