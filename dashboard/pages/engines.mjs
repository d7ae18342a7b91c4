// Engines of one's own: what runs in them now, what their hours cost, and from which volume on they are cheaper.
import { address } from "./api.mjs";
import { Chart } from "./charts.mjs";
import { count, decimal, percent, UNKNOWN, usd } from "./format.mjs";
import { html } from "./html.mjs";
import { Load } from "./load.mjs";
import { set } from "./router.mjs";
import { Table } from "./table.mjs";

const DAY_HOURS = 24;
// Every hour of it, idle and asleep ones too, by all tokens; and without the hours in which it did nothing.
const EFFECTIVE = [
  { name: "engine", of: (row) => row.engine },
  ...["hour", "day", "week"].flatMap((span) => [
    { name: `last ${span}, $/Mtok`, right: true, of: (row) => decimal(row.last?.[span]?.usd_per_mtok) },
    { name: "busy", right: true, of: (row) => decimal(row.last?.[span]?.busy_usd_per_mtok) },
    { name: "idle", right: true, of: (row) => percent(row.last?.[span]?.idle_share) },
  ]),
];
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
  { name: "asleep, hours", right: true, of: (row) => decimal(row.asleep_h) },
  { name: "requests", right: true, of: (row) => count(row.requests) },
  { name: "output tokens", right: true, of: (row) => count(row.output_tokens) },
  { name: "tokens/s while busy", right: true, of: (row) => decimal(row.busy_tokens_per_s) },
  { name: "kWh", right: true, of: (row) => decimal(row.kwh) },
  { name: "cost", right: true, of: (row) => usd(row.usd) },
  { name: "of it idle", right: true, of: (row) => usd(row.idle_usd) },
  { name: "asleep", right: true, of: (row) => usd(row.asleep_usd) },
  { name: "$/Mtok", right: true, of: (row) => decimal(row.usd_per_mtok) },
];

function stateOf(engine) {
  if (!engine) return UNKNOWN;
  const left = engine.ready_in_s === null ? "" : `, ready in about ${Math.ceil(engine.ready_in_s)} s`;
  return engine.state + (engine.stage ? `: ${engine.stage}` : "") + left;
}

// An hour's price as it was typed: null where it is none, with which nothing is asked.
const hourly = (text) => (Number(text) > 0 && Number.isFinite(Number(text)) ? text : null);

export function Engines({ query, since, team, tick }) {
  const from = {
    targets: address("targets", { team }),
    engines: address("reports/engines", { since }),
    breakeven: address("reports/breakeven", { since, team, gpu_usd_per_hour: hourly(query.hour) }),
  };
  return html`<${Load} from=${from} tick=${tick} show=${(found) => html`<${Shown} ...${found} hour=${query.hour} />`} />`;
}

function Shown({ targets, engines, breakeven, hour }) {
  const owned = targets.data.filter((each) => each.owned);
  const known = breakeven.data.filter((line) => line.usd_per_hour !== null && line.target_usd_per_mtok !== null);
  const refused = Boolean(hour) && hourly(hour) === null;
  return html`<h2>Now</h2>
    <${Table} label="Engines now" columns=${NOW} rows=${owned} height=${8} empty="No model has an engine among its targets, or this key may not use one." />
    <h2>Their hours</h2>
    <${Table} label="Engines' hours" columns=${HOURS} rows=${engines.data} height=${8} empty="No engine was up or asleep in this time, or its hours are others' too." />
    ${engines.data.length > 0 && html`<h2>What a million tokens really cost</h2>
      <${Table} label="Effective cost" columns=${EFFECTIVE} rows=${engines.data} height=${8} />`}
    <h2>Break-even</h2>
    <form class="row" onSubmit=${(event) => event.preventDefault()}><label>Instead, an hour costs, US dollars
      <input type="number" min="0.000001" step="any" defaultValue=${hour || ""} aria-invalid=${refused} aria-describedby=${refused ? "no-price" : undefined} onChange=${(event) => set({ hour: event.target.value })} /></label>
      ${refused && html`<p class="error" role="alert" id="no-price">An hour costs more than 0 US dollars, such as 0.04. Shown is what the ledger has of its price.</p>`}</form>
    ${known.length ? html`<div class="charts">${known.map((line) => html`<${BreakEven} key=${line.engine + line.target} line=${line} />`)}</div>`
      : html`<p class="quiet">It takes an engine and a target with a price that were both used in this time, and what an hour of the engine costs.</p>`}
    <${Table} label="Break-even" columns=${COMPARED} rows=${breakeven.data} height=${8} empty=" " />`;
}

const verdict = (value) => (value === null ? UNKNOWN : html`<span class=${value ? "good" : ""}>${value ? "yes" : "no"}</span>`);
const pair = (form, one, two) => `${form(one)} / ${form(two)}`;
const COMPARED = [
  { name: "engine", of: (row) => row.engine },
  { name: "or", of: (row) => row.target },
  { name: "$/Mtok here / there", right: true, of: (row) => pair(decimal, row.engine_usd_per_mtok, row.target_usd_per_mtok) },
  { name: "use now / even", right: true, of: (row) => pair(percent, row.utilisation, row.breakeven_utilisation) },
  { name: "Mtok/day now / even", right: true, of: (row) => pair(decimal, row.mtok_per_day, row.breakeven_mtok_per_day) },
  { name: "all traffic", right: true, of: (row) => decimal(row.traffic_mtok_per_day) },
  { name: "cheaper", of: (row) => verdict(row.cheaper_now) },
  { name: "with all", of: (row) => verdict(row.cheaper_with_all) },
  { name: "in 30 days", of: (row) => html`${verdict(row.cheaper_projected)}${range(row)}` },
  { name: "no price", right: true, of: (row) => count(row.target_unpriced) },
];
// Where the engine's tokens a day will be, with 95 % confidence.
const range = (row) => (row.projected_mtok_per_day === null ? "" : ` (${decimal(row.projected_mtok_per_day_low)} to ${decimal(row.projected_mtok_per_day_high)})`);

// What a day costs by its tokens: the engine's hours, up to what it can do; the managed target's price; and where this traffic is.
function BreakEven({ line }) {
  const even = line.usd_per_hour * DAY_HOURS / line.target_usd_per_mtok;
  const all = line.traffic_mtok_per_day;
  const most = line.utilisation ? line.mtok_per_day / line.utilisation : null;
  const later = line.cheaper_projected === null ? null : line.projected_mtok_per_day; // what is not sure has no place on a line
  const end = Math.max(even * 1.5, all * 1.2, (later || 0) * 1.2);
  const x = [...new Set([0, ...(later === null ? [] : [later]), even, line.mtok_per_day, all, ...(most !== null && most < end ? [most] : []), end])].sort((a, b) => a - b);
  const price = (mtok) => mtok * line.target_usd_per_mtok;
  const series = [
    { label: `${line.engine}, up to what it can do`, values: x.map((mtok) => (most !== null && mtok > most ? null : line.usd_per_hour * DAY_HOURS)) },
    { label: line.target, values: x.map(price) },
    { label: "even", values: x.map((mtok) => (mtok === even ? price(mtok) : null)), marks: true },
    { label: `${line.engine}'s tokens now`, values: x.map((mtok) => (mtok === line.mtok_per_day ? price(mtok) : null)), marks: true },
    ...(later === null ? [] : [{ label: "in 30 days", values: x.map((mtok) => (mtok === later ? price(mtok) : null)), marks: true }]),
    { label: "all traffic", values: x.map((mtok) => (mtok === all ? price(mtok) : null)), marks: true },
  ];
  const soon = line.breakeven_in_days ? `, in ${count(line.breakeven_in_days)} days as it grows` : "";
  const beyond = line.breakeven_utilisation > 1.005 ? `, more than ${line.engine} can do` : "";
  const title = `${line.engine} or ${line.target}, US dollars a day: even at ${decimal(even)} Mtok a day${beyond}${soon}`;
  return html`<${Chart} title=${title} x=${x} series=${series} form=${usd} formX=${decimal} time=${false} xLabel="Mtok a day" />`;
}
