// What it cost, by whatever one asks.
import { address, state } from "./api.mjs";
import { byTime, Chart, stepOf } from "./charts.mjs";
import { count, decimal, sum, usd } from "./format.mjs";
import { html } from "./html.mjs";
import { Load } from "./load.mjs";
import { Tile } from "./overview.mjs";
import { set } from "./router.mjs";
import { Table } from "./table.mjs";

const GROUPS = { target: "target", model: "model", key: "key", provider: "provider", policy: "policy" };

export function Spend({ query, since, team, tick }) {
  const groups = state.api === "/admin" ? { team: "team", ...GROUPS } : GROUPS;
  const by = groups[query.by] || "target";
  const step = stepOf(since);
  const from = {
    cost: address("reports/cost", { since, team, group_by: by, limit: 1000 }),
    series: address("reports/cost", { since, team, group_by: `${by},${step}`, limit: 1000 }),
  };
  return html`<form class="row"><label>By <select value=${by} onChange=${(event) => set({ by: event.target.value })}>
      ${Object.keys(groups).map((name) => html`<option value=${name}>${name}</option>`)}
    </select></label></form>
    <${Load} from=${from} tick=${tick} show=${(found) => html`<${Shown} ...${found} by=${by} step=${step} />`} />`;
}

function Shown({ cost, series, by, step }) {
  const chart = byTime(series.data, step, (line) => line.cost_usd, { group: by, whole: series });
  const rows = [...cost.data].sort((a, b) => Number(b.cost_usd || 0) - Number(a.cost_usd || 0));
  const columns = [
    { name: by, of: (row) => row[by] || "(none)" },
    { name: "requests", right: true, of: (row) => count(row.requests) },
    { name: "spend", right: true, of: (row) => usd(row.cost_usd) },
    { name: "engine time", right: true, of: (row) => usd(row.engine_usd) },
    { name: "saved by cache", right: true, of: (row) => usd(row.saved_usd) },
    { name: "absorbed", right: true, of: (row) => usd(row.absorbed_usd) },
    { name: "$/Mtok", right: true, of: (row) => decimal(row.usd_per_mtok) },
    { name: "no price", right: true, of: (row) => count(row.unpriced) },
  ];
  return html`<dl class="tiles">
      <${Tile} name="Spend" value=${usd(sum(rows, "cost_usd"))} />
      <${Tile} name="Engine time" value=${usd(sum(rows, "engine_usd"))} />
      <${Tile} name="Saved by cache" value=${usd(sum(rows, "saved_usd"))} />
      <${Tile} name="Attempts without a price" value=${count(sum(rows, "unpriced") ?? 0)} />
    </dl>
    <div class="charts"><${Chart} title=${`Spend by ${by}, US dollars`} x=${chart.x} series=${chart.series} form=${usd} /></div>
    <${Table} label=${`Spend by ${by}`} columns=${columns} rows=${rows} />`;
}
