// One request: what was decided, who was tried when, and what each step took.
import { address } from "./api.mjs";
import { count, decimal, moment, ms, percent, usd } from "./format.mjs";
import { html } from "./html.mjs";
import { Load } from "./load.mjs";
import { link } from "./router.mjs";
import { Table } from "./table.mjs";

export function RequestPage({ id, tick }) {
  const place = encodeURIComponent(id);
  const from = { request: address(`requests/${place}`), decision: address(`decisions/${place}`) };
  return html`<p><a href=${link("requests")}>All requests</a></p>
    <${Load} from=${from} tick=${tick} show=${({ request, decision }) => html`<${Shown} request=${request} decision=${decision.decision} />`} />`;
}

function Shown({ request, decision }) {
  const facts = {
    id: request.request_id,
    began: moment(request.attempts[0]?.started_at),
    status: `${request.status}${request.client_status ? ` (${request.client_status})` : ""}`,
    team: request.team,
    model: request.model,
    endpoint: `${request.endpoint}${request.stream ? ", streamed" : ""}`,
    cost: usd(request.cost_usd),
  };
  return html`<div class="panel"><dl class="facts">${Object.entries(facts).map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl></div>
    <h2>Attempts</h2>
    <${Waterfall} attempts=${request.attempts} />
    <${Table} label="Attempts" columns=${ATTEMPT} rows=${request.attempts} />
    <h2>Decision</h2>
    ${decision ? html`<${Decision} decision=${decision} />` : html`<p class="quiet">No decision is kept of it.</p>`}`;
}

const ATTEMPT = [
  { name: "target", of: (row) => row.target },
  { name: "status", of: (row) => row.status },
  { name: "why", of: (row) => row.reason },
  { name: "error", of: (row) => row.error || "" },
  { name: "first token", right: true, of: (row) => ms(row.ms.first_token) },
  { name: "predicted p95", right: true, of: (row) => ms(row.predicted?.ttft_p95_ms) },
  { name: "end", right: true, of: (row) => ms(row.ms.end) },
  { name: "input", right: true, of: (row) => count(row.usage?.input_uncached) },
  { name: "cached", right: true, of: (row) => count(row.usage?.cache_read) },
  { name: "output", right: true, of: (row) => count(row.usage?.output_visible) },
  { name: "cost", right: true, of: (row) => usd(row.cost_usd) },
];

const WIDE = 900;
const NAMES = 170;
const HIGH = 26;
const KINDS = [["wait", "our queue"], ["connect", "connect"], ["headers", "head, first token"], ["answer", "the answer"], ["failed", "failed"]];

export function Waterfall({ attempts }) {
  const began = Date.parse(attempts[0]?.started_at);
  const bars = attempts.map((each) => ({ ...each, offset: Date.parse(each.started_at) - began }));
  const length = Math.max(1, ...bars.map((each) => each.offset + (each.ms.end || 0)));
  const at = (time) => NAMES + (time / length) * (WIDE - NAMES - 70);
  const said = bars.map((each) => `${each.target} began after ${ms(each.offset)}, ${each.status} after ${ms(each.ms.end)}`).join("; ");
  return html`<div class="scroll panel" tabindex="0" role="region" aria-label="Waterfall of the attempts">
    <svg class="waterfall" viewBox=${`0 0 ${WIDE} ${bars.length * HIGH + 6}`} role="img" aria-label=${said}>
      ${bars.map((each, i) => {
        const y = i * HIGH + 4;
        return html`<text x="0" y=${y + 13}>${each.target.slice(0, 24)}</text>
          ${steps(each).map(([kind, from, to]) => html`<rect class=${kind} x=${at(each.offset + from)} y=${y} width=${Math.max(1, at(to) - at(from))} height="16" rx="2"><title>${`${kind}: ${ms(to - from)}`}</title></rect>`)}
          <text x=${at(each.offset + (each.ms.end || 0)) + 6} y=${y + 13}>${ms(each.ms.end)}</text>`;
      })}
    </svg>
    <p class="key">${KINDS.map(([kind, name]) => html`<span><svg viewBox="0 0 10 10" aria-hidden="true"><rect class=${kind} width="10" height="10" rx="2" /></svg> ${name}</span>`)}</p>
  </div>`;
}

function steps({ ms: times, status }) {
  const marks = [["wait", times.queue], ["connect", times.connect], ["headers", times.first_token ?? times.headers], [status === "ok" ? "answer" : "failed", times.end]];
  let before = 0;
  return marks.filter(([, to]) => to !== null && to !== undefined).map(([kind, to]) => {
    const step = [kind, before, Math.max(before, to)];
    before = step[2];
    return step;
  });
}

const CANDIDATE = [
  { name: "target", of: (row) => (row.owned ? `${row.target} (own)` : row.target) },
  { name: "verdict", of: (row) => html`<span class=${{ chosen: "good", removed: "bad" }[row.verdict] || ""}>${row.verdict}</span>` },
  { name: "why", of: (row) => row.rule },
  { name: "first token", right: true, of: (row) => ms(row.ttft_ms) },
  { name: "p95", right: true, of: (row) => ms(row.ttft_p95_ms) },
  { name: "tokens/s", right: true, of: (row) => decimal(row.tokens_per_s) },
  { name: "cost", right: true, of: (row) => usd(row.cost_usd) },
  { name: "SLO odds", right: true, of: (row) => percent(row.p_slo) },
  { name: "measured", right: true, of: (row) => decimal(row.samples) },
];

export function Decision({ decision }) {
  return html`<p>${decision.chosen ? html`<strong>${decision.chosen}</strong>: ${decision.why}` : html`Nobody: ${decision.why}`}
      <span class="quiet"> — policy ${decision.policy}, ${decision.objective}, about ${count(decision.prompt_tokens)} tokens in the prompt</span></p>
    <${Table} label="Candidates" columns=${CANDIDATE} rows=${decision.candidates} empty="The model has no targets." />`;
}
