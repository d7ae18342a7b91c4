// Engines of one's own: what runs in them now, what their hours cost, and from which volume on they are cheaper.
import { address } from "./api.mjs";
import { Chart } from "./charts.mjs";
import { count, decimal, percent, UNKNOWN, usd } from "./format.mjs";
import { html } from "./html.mjs";
import { Load } from "./load.mjs";
import { set } from "./router.mjs";
import { Table } from "./table.mjs";

const DAY_HOURS = 24;
const NOW = [
  { name: "engine", of: (row) => row.target },
  { name: "state", of: (row) => stateOf(row.engine) },
  { name: "running", right: true, of: (row) => row.live?.running ?? row.running ?? UNKNOWN },
  { name: "waiting", right: true, of: (row) => row.live?.waiting ?? UNKNOWN },
  { name: "KV cache", right: true, of: (row) => percent(row.live?.kv_used) },
  { name: "tokens/s", right: true, of: (row) => decimal(row.live?.tokens_per_s) },
  { name: "prefix hits", right: true, of: (row) => percent(row.live?.prefix_hits) },
  { name: "replicas", right: true, of: (row) => row.live?.replicas ?? UNKNOWN },
];
const HOURS = [
  { name: "engine", of: (row) => row.engine },
  { name: "up, hours", right: true, of: (row) => decimal(row.up_h) },
  { name: "idle", right: true, of: (row) => percent(row.idle_share) },
  { name: "requests", right: true, of: (row) => count(row.requests) },
  { name: "output tokens", right: true, of: (row) => count(row.output_tokens) },
  { name: "tokens/s while busy", right: true, of: (row) => decimal(row.busy_tokens_per_s) },
  { name: "kWh", right: true, of: (row) => decimal(row.kwh) },
  { name: "cost", right: true, of: (row) => usd(row.usd) },
  { name: "of it idle", right: true, of: (row) => usd(row.idle_usd) },
  { name: "$/Mtok", right: true, of: (row) => decimal(row.usd_per_mtok) },
];

function stateOf(engine) {
  if (!engine) return UNKNOWN;
  const left = engine.ready_in_s === null ? "" : `, ready in about ${Math.ceil(engine.ready_in_s)} s`;
  return engine.state + (engine.stage ? `: ${engine.stage}` : "") + left;
}

export function Engines({ query, since, team, tick }) {
  const from = {
    targets: address("targets", { team }),
    engines: address("reports/engines", { since }),
    breakeven: address("reports/breakeven", { since, team, gpu_usd_per_hour: query.hour }),
  };
  return html`<${Load} from=${from} tick=${tick} show=${(found) => html`<${Shown} ...${found} hour=${query.hour} />`} />`;
}

function Shown({ targets, engines, breakeven, hour }) {
  const owned = targets.data.filter((each) => each.owned);
  const known = breakeven.data.filter((line) => line.usd_per_hour !== null && line.target_usd_per_mtok !== null);
  return html`<h2>Now</h2>
    <${Table} label="Engines now" columns=${NOW} rows=${owned} height=${8} empty="The configuration has no engine, or this key may not use one." />
    <h2>Their hours</h2>
    <${Table} label="Engines' hours" columns=${HOURS} rows=${engines.data} height=${8} empty="No engine was up in this time, or its hours are others' too." />
    <h2>Break-even</h2>
    <form class="row" onSubmit=${(event) => event.preventDefault()}><label>An hour costs, US dollars
      <input type="number" min="0.000001" step="any" defaultValue=${hour || ""} onChange=${(event) => set({ hour: event.target.value })} /></label></form>
    ${known.length ? html`<div class="charts">${known.map((line) => html`<${BreakEven} key=${line.engine + line.target} line=${line} />`)}</div>`
      : html`<p class="quiet">It takes an engine and a target with a price that were both used in this time, and what an hour of the engine costs.</p>`}
    <${Table} label="Break-even" columns=${COMPARED} rows=${breakeven.data} height=${8} empty=" " />`;
}

const COMPARED = [
  { name: "engine", of: (row) => row.engine },
  { name: "managed target", of: (row) => row.target },
  { name: "its $/Mtok", right: true, of: (row) => decimal(row.target_usd_per_mtok) },
  { name: "break-even Mtok/day", right: true, of: (row) => decimal(row.breakeven_mtok_per_day) },
  { name: "traffic Mtok/day", right: true, of: (row) => decimal(row.traffic_mtok_per_day) },
  { name: "cheaper now", of: (row) => (row.cheaper_now === null ? UNKNOWN : row.cheaper_now ? "yes" : "no") },
];

function BreakEven({ line }) {
  const needed = line.usd_per_hour * DAY_HOURS / line.target_usd_per_mtok;
  const most = Math.max(needed * 2, (line.traffic_mtok_per_day || 0) * 1.2) || 1;
  const x = Array.from({ length: 41 }, (_, i) => (most * i) / 40);
  const series = [
    { label: line.engine, values: x.map(() => line.usd_per_hour * DAY_HOURS) },
    { label: line.target, values: x.map((mtok) => mtok * line.target_usd_per_mtok) },
  ];
  return html`<${Chart} title=${`US dollars a day: even at ${decimal(needed)} Mtok a day, now ${decimal(line.traffic_mtok_per_day)}`} x=${x} series=${series} form=${usd} time=${false} xLabel="Mtok a day" />`;
}
