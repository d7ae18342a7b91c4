// The targets: who may be tried now, how they do, and how the last day was.
import { address } from "./api.mjs";
import { decimal, ms, percent, UNKNOWN } from "./format.mjs";
import { html } from "./html.mjs";
import { Load } from "./load.mjs";
import { Table } from "./table.mjs";

const HOURS = 24;
const HOUR_MS = 3_600_000;
const STATES = { closed: "good", half_open: "warn", open: "bad", cooling: "warn" };
const WORDS = { closed: "well", half_open: "on trial", open: "set aside", cooling: "left alone" };

export function Targets({ team, tick }) {
  const from = { targets: address("targets", { team }), hours: address("reports/usage", { since: "24h", team, group_by: "target,hour", limit: 1000 }) };
  return html`<${Load} from=${from} tick=${tick} show=${({ targets, hours }) => html`<${Table} label="Targets" columns=${columns(hours.data)} rows=${targets.data} height=${20} empty="No target." />`} />`;
}

const columns = (hours) => [
  { name: "target", of: (row) => (row.owned ? `${row.target} (own)` : row.target) },
  { name: "breaker", of: (row) => html`<span class=${STATES[row.breaker]}>${WORDS[row.breaker]} (${row.breaker})</span>` },
  { name: "last 24 hours", of: (row) => html`<${Uptime} lines=${hours.filter((line) => line.target === row.target)} />` },
  { name: "failing", right: true, of: (row) => percent(row.error_rate) },
  { name: "limited", right: true, of: (row) => percent(row.limited_rate) },
  { name: "first token p50 / p95", right: true, of: (row) => `${ms(row.ttft_p50_ms)} / ${ms(row.ttft_p95_ms)}` },
  { name: "end p50 / p95", right: true, of: (row) => `${ms(row.total_p50_ms)} / ${ms(row.total_p95_ms)}` },
  { name: "tokens/s", right: true, of: (row) => (row.token_mean_ms ? decimal(1000 / row.token_mean_ms) : UNKNOWN) },
  { name: "cached", right: true, of: (row) => percent(row.cache_share) },
  { name: "running", right: true, of: (row) => row.running ?? UNKNOWN },
];

export function Uptime({ lines }) {
  const now = Math.floor(Date.now() / HOUR_MS);
  const found = new Map(lines.map((line) => [Math.floor(Date.parse(line.hour) / HOUR_MS), line]));
  const hours = Array.from({ length: HOURS }, (_, i) => found.get(now - HOURS + 1 + i));
  const attempts = lines.reduce((total, line) => total + line.attempts, 0);
  const failed = lines.reduce((total, line) => total + line.failed, 0);
  const said = attempts ? `${percent(1 - failed / attempts)} of ${attempts} attempts in the last 24 hours did not fail` : "not asked in the last 24 hours";
  return html`<svg class="uptime" viewBox="0 0 192 20" preserveAspectRatio="none" role="img" aria-label=${said}>
    <title>${said}</title>
    ${hours.map((line, i) => {
      const share = line?.attempts ? line.failed / line.attempts : null;
      const kind = share === null ? "none" : share === 0 ? "ok" : share < 0.05 ? "some" : "failed";
      const high = share === null ? 4 : 20 - 10 * share;
      return html`<rect class=${kind} x=${i * 8} y=${20 - high} width="6" height=${high} />`;
    })}
  </svg>`;
}
