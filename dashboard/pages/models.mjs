// What may be asked for, who answers it, and what that costs.
import { address } from "./api.mjs";
import { count, decimal, UNKNOWN, usd } from "./format.mjs";
import { html } from "./html.mjs";
import { Load } from "./load.mjs";
import { Table } from "./table.mjs";

const price = (name) => (row) => (row.usd_per_mtok ? decimal(row.usd_per_mtok[name]) : UNKNOWN);
const COLUMNS = [
  { name: "model", of: (row) => row.model },
  { name: "target", of: (row) => (row.owned ? `${row.target} (own)` : row.target) },
  { name: "input $/Mtok", right: true, of: price("input") },
  { name: "output $/Mtok", right: true, of: price("output") },
  { name: "cached input", right: true, of: price("cache_read") },
  { name: "$/hour", right: true, of: (row) => usd(row.usd_per_hour) },
  { name: "context", right: true, of: (row) => count(row.context_tokens) },
  { name: "region", of: (row) => row.region || "" },
  { name: "policy", of: (row) => row.policy },
];

export function Models({ team, tick }) {
  const show = ({ routing }) => {
    const rows = routing.data.flatMap((each) => each.targets.map((target) => ({ ...target, model: each.model, policy: each.policy.name })));
    return html`<${Table} label="Models and prices" columns=${COLUMNS} rows=${rows} height=${20} empty="No model may be asked for." />`;
  };
  return html`<${Load} from=${{ routing: address("routing", { team }) }} tick=${tick} show=${show} />`;
}
