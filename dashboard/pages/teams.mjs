// Limits and budgets: what is left, how the money burns, and where that leads.
import { address, state } from "./api.mjs";
import { byTime, Chart } from "./charts.mjs";
import { count, percent, usd } from "./format.mjs";
import { Component, html } from "./html.mjs";
import { Load } from "./load.mjs";

const DAY = 86_400;

export function Teams({ team, tick }) {
  return html`<${Load} from=${{ budgets: address("budgets", { team }) }} tick=${tick} show=${({ budgets }) => html`<${Shown} standings=${budgets.data} tick=${tick} />`} />`;
}

function Shown({ standings, tick }) {
  if (!standings.length) return html`<p class="quiet">Nothing limits what may be asked here: docs/budgets.md and docs/limits.md say how.</p>`;
  return html`<div class="budgets">${standings.map((each) => html`<section class="panel" key=${each.scope.kind + each.scope.name}>
      <h2>${each.scope.name} <span class="quiet">${each.scope.kind}</span></h2>
      <dl class="facts">
        <dt>running</dt><dd>${each.running}${each.concurrency ? ` of ${each.concurrency}` : ""}</dd>
        ${each.requests && html`<dt>requests left</dt><dd>${count(each.requests.remaining)} of ${count(each.requests.limit)} a minute</dd>`}
        ${each.tokens && html`<dt>tokens left</dt><dd>${count(each.tokens.remaining)} of ${count(each.tokens.limit)} a minute</dd>`}
      </dl>
      ${each.budgets.map((budget) => html`<${Budget} budget=${budget} />`)}
      ${each.scope.kind === "team" && each.budgets.length > 0 && html`<${BurnDown} team=${each.scope.name} budget=${each.budgets[0]} tick=${tick} />`}
    </section>`)}</div>`;
}

// Seconds of a budget's window; null: it has no end.
export function length(window, start) {
  const begin = new Date(start * 1000);
  if (window === "day") return DAY;
  if (window === "week") return 7 * DAY;
  if (window === "month") return (Date.UTC(begin.getUTCFullYear(), begin.getUTCMonth() + 1, 1) - begin.getTime()) / 1000;
  return null;
}

// Where the spending of the window so far leads by its end; null: too little of it is over to say.
export function projected(budget, now = Date.now() / 1000) {
  const whole = length(budget.window, budget.window_start);
  const gone = now - budget.window_start;
  return whole === null || gone < whole / 100 ? null : (budget.spent_usd / gone) * whole;
}

function Budget({ budget }) {
  const share = budget.usd ? budget.spent_usd / budget.usd : 1;
  const end = projected(budget);
  return html`<p>${usd(budget.spent_usd)} of ${usd(budget.usd)} (${percent(share)}) in this ${budget.window}${budget.reserved_usd ? `, ${usd(budget.reserved_usd)} reserved` : ""}
    <svg class="meter" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label=${`${percent(share)} spent`}><rect class=${share > 1 ? "over" : "used"} width=${Math.min(100, share * 100)} height="10" /></svg>
    <span class=${end !== null && end > budget.usd ? "bad" : "quiet"}>${end === null ? "too early to project" : `at this pace ${usd(end)} by its end`}; then: ${budget.on_exhausted}</span></p>`;
}

class BurnDown extends Component {
  render({ team, budget, tick }) {
    const day = budget.window === "day" || budget.window === "week";
    const step = day ? "hour" : "day";
    const begin = Math.max(budget.window_start, Date.now() / 1000 - 90 * DAY);
    const from = { cost: address("reports/cost", { from: new Date(begin * 1000).toISOString(), group_by: step, limit: 1000, ...teamParam(team) }) };
    return html`<${Load} name="chart" from=${from} tick=${tick} show=${({ cost }) => html`<${Chart} title="What is left" ...${burnt(budget, cost.data, step)} form=${usd} />`} />`;
  }
}

const teamParam = (team) => (state.api === "/admin" ? { team } : {});

// What was left after each step; and, where the window has an end, an even pace and where the pace so far leads.
export function burnt(budget, lines, step, now = Date.now() / 1000) {
  const found = byTime(lines, step, (line) => line.cost_usd);
  const whole = length(budget.window, budget.window_start);
  let left = budget.usd;
  if (whole === null) return { x: found.x, series: [{ label: "left", values: (found.series[0]?.values || []).map((spent) => (left -= spent || 0)) }] };
  const size = step === "hour" ? 3600 : DAY;
  const spent = new Map(found.x.map((at, i) => [at, found.series[0].values[i] || 0]));
  const x = Array.from({ length: Math.round(whole / size) + 1 }, (_, i) => budget.window_start + i * size);
  const over = x.map((at) => (at > now + size ? null : at === budget.window_start ? left : (left -= spent.get(at - size) || 0)));
  const last = over.findLastIndex((each) => each !== null);
  const end = projected(budget, now);
  const ahead = x.map((at, i) => (end === null || i < last ? null : Math.max(0, over[last] - (end - budget.spent_usd) * ((i - last) / Math.max(1, x.length - 1 - last)))));
  const even = x.map((at) => Math.max(0, budget.usd * (1 - (at - budget.window_start) / whole)));
  return { x, series: [{ label: "left", values: over }, { label: "even pace", values: even, dash: [2, 4] }, { label: "at this pace", values: ahead, dash: [8, 5] }] };
}
