// What was waited for: first token, between tokens, the end, our queue, our own part.
import { address } from "./api.mjs";
import { byTime, Chart, stepOf } from "./charts.mjs";
import { Predictions } from "./calibration.mjs";
import { count, decimal, ms, percent } from "./format.mjs";
import { html } from "./html.mjs";
import { Load } from "./load.mjs";
import { set } from "./router.mjs";
import { Table } from "./table.mjs";

const GROUPS = ["target", "model", "provider", "policy", "prompt"];

export function Latency({ query, since, team, tick }) {
  const by = GROUPS.includes(query.by) ? query.by : "target";
  const step = stepOf(since);
  const from = {
    latency: address("reports/latency", { since, team, group_by: by, limit: 1000 }),
    series: address("reports/latency", { since, team, group_by: `${by},${step}`, limit: 1000 }),
    slo: address("reports/slo", { since, team }),
  };
  return html`<form class="row"><label>By <select value=${by} onChange=${(event) => set({ by: event.target.value })}>
      ${GROUPS.map((name) => html`<option value=${name}>${name}</option>`)}
    </select></label></form>
    <${Load} from=${from} tick=${tick} show=${(found) => html`<${Shown} ...${found} by=${by} step=${step} />`} />
    <section aria-labelledby="predictions"><h2 id="predictions">Predictions</h2><${Predictions} key=${since} since=${since} team=${team} /></section>`;
}

const both = (measured) => `${ms(measured.p50_ms)} / ${ms(measured.p95_ms)}`;

function Shown({ latency, series, slo, by, step }) {
  const first = byTime(series.data, step, (line) => line.ttft.p95_ms, { group: by, whole: series });
  const end = byTime(series.data, step, (line) => line.end.p95_ms, { group: by, whole: series });
  const columns = [
    { name: by, of: (row) => row[by] || "(none)" },
    { name: "answers", right: true, of: (row) => count(row.end.n) },
    { name: "first token p50 / p95", right: true, of: (row) => both(row.ttft) },
    { name: "between tokens", right: true, of: (row) => both(row.inter_token) },
    { name: "end", right: true, of: (row) => both(row.end) },
    { name: "queue", right: true, of: (row) => both(row.queue) },
    { name: "own overhead", right: true, of: (row) => both(row.overhead) },
    { name: "tokens/s", right: true, of: (row) => decimal(row.tokens_per_s.p50) },
  ];
  const promises = [
    { name: "policy", of: (row) => row.policy || "(none)" },
    { name: "judged", right: true, of: (row) => count(row.requests) },
    { name: "kept", right: true, of: (row) => percent(row.attained) },
    { name: "missed", right: true, of: (row) => count(row.missed) },
  ];
  return html`<div class="charts">
      <${Chart} title=${`First token, p95, by ${by}`} x=${first.x} series=${first.series} form=${ms} />
      <${Chart} title=${`Whole answer, p95, by ${by}`} x=${end.x} series=${end.series} form=${ms} />
    </div>
    <${Table} label=${`Latency by ${by}`} columns=${columns} rows=${latency.data} />
    <h2>Promises</h2>
    <${Table} label="SLO by policy" columns=${promises} rows=${slo.data} empty="No policy promised anything in this time." height=${6} />`;
}
