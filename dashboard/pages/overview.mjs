// How it goes: money, requests, errors, waiting, speed, the cache, the targets.
import { address } from "./api.mjs";
import { byTime, Chart, stepOf } from "./charts.mjs";
import { count, decimal, ms, percent, sum, UNKNOWN, usd } from "./format.mjs";
import { html } from "./html.mjs";
import { Load } from "./load.mjs";

export function Tile({ name, value, beside }) {
  return html`<div class="tile"><dt>${name}</dt><dd>${value}${beside && html`<small>${beside}</small>`}</dd></div>`;
}

export function Overview({ since, team, tick }) {
  const step = stepOf(since);
  const all = { since, team, limit: 1000 };
  const from = {
    usage: address("reports/usage", { ...all, group_by: `status,${step}` }),
    cost: address("reports/cost", { ...all, group_by: step }),
    latency: address("reports/latency", { ...all, group_by: [] }),
    waits: address("reports/latency", { ...all, group_by: step }),
    providers: address("reports/usage", { ...all, group_by: "provider" }),
    recent: address("reports/usage", { since: "5m", team, group_by: [] }),
    budgets: address("budgets", { team }),
    targets: address("targets", { team }),
  };
  return html`<${Load} from=${from} tick=${tick} show=${(found) => html`<${Shown} ...${found} step=${step} />`} />`;
}

function Shown({ usage, cost, latency, waits, providers, recent, budgets, targets, step }) {
  const requests = sum(usage.data, "requests");
  const attempts = sum(usage.data, "attempts");
  const failed = usage.data.reduce((total, line) => total + failing(line), 0);
  const refused = usage.data.reduce((total, line) => total + (FAILING.includes(line.status) ? line.failed - line.attempts : 0), 0);
  const hits = sum(providers.data.filter((line) => line.provider === "cache"), "requests");
  const ttft = latency.data[0]?.ttft;
  const live = targets.data.filter((each) => each.breaker === "closed").length;
  const output = sum(recent.data, "output_tokens");
  const steps = merged(usage.data, step);
  const total = byTime(steps, step, (line) => line.requests, { whole: usage });
  const tokens = byTime(steps, step, (line) => line.output_tokens, { whole: usage });
  const failures = byTime(steps, step, (line) => line.failed, { whole: usage });
  const money = byTime(cost.data, step, (line) => line.cost_usd, { whole: cost });
  const p50 = byTime(waits.data, step, (line) => line.ttft.p50_ms, { whole: waits });
  const p95 = byTime(waits.data, step, (line) => line.ttft.p95_ms, { whole: waits });
  return html`<dl class="tiles">
      <${Tile} name="Spend" value=${usd(sum(cost.data, "cost_usd"))} beside=${against(budgets.data)} />
      <${Tile} name="Requests" value=${count(requests ?? 0)} />
      <${Tile} name="Failed attempts" value=${count(failed)} beside=${attempts ? percent(failed / attempts) : null} />
      <${Tile} name="Refused requests" value=${count(refused)} beside=${requests ? percent(refused / requests) : null} />
      <${Tile} name="First token, p50" value=${ms(ttft?.p50_ms)} beside=${`p95 ${ms(ttft?.p95_ms)}`} />
      <${Tile} name="Output tokens/s" value=${output === null ? UNKNOWN : decimal(output / 300)} beside="last 5 minutes" />
      <${Tile} name="Cache hits" value=${count(hits ?? 0)} beside=${requests ? percent((hits ?? 0) / requests) : null} />
      <${Tile} name="Live targets" value=${`${live} of ${targets.data.length}`} />
    </dl>
    <div class="charts">
      <${Chart} title="Requests" x=${total.x} series=${named(total, "requests").concat(named(failures, "failed attempts"))} />
      <${Chart} title="Spend, US dollars" x=${money.x} series=${named(money, "spend")} form=${usd} bars=${true} />
      <${Chart} title="Time to first token" x=${p50.x} series=${named(p50, "p50").concat(named(p95, "p95"))} form=${ms} />
      <${Chart} title="Output tokens" x=${tokens.x} series=${named(tokens, "output tokens")} bars=${true} />
    </div>`;
}

const FAILING = ["failed", "cut"];

// Attempts alone: a request that was refused before there was one is counted by `failed` of the report too.
const failing = (line) => (FAILING.includes(line.status) ? line.attempts : 0);

const named = (found, label) => found.series.map((each) => ({ ...each, label }));

function merged(lines, step) {
  const found = new Map();
  for (const line of lines) {
    const at = found.get(line[step]) || { [step]: line[step], requests: 0, failed: 0, output_tokens: 0 };
    at.requests += line.requests;
    at.failed += failing(line);
    at.output_tokens += line.output_tokens || 0;
    found.set(line[step], at);
  }
  return [...found.values()];
}

function against(standings) {
  const budget = standings.filter((each) => each.scope.kind === "team").flatMap((each) => each.budgets)[0];
  return budget ? `${usd(budget.spent_usd)} of ${usd(budget.usd)} this ${budget.window}` : "no budget";
}
