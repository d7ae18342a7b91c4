// Whether predictions come true: a reliability plot of the SLO, and the errors of times, tokens and cost.
import { address } from "./api.mjs";
import { count, percent, UNKNOWN } from "./format.mjs";
import { Component, html } from "./html.mjs";
import { Load } from "./load.mjs";
import { Table } from "./table.mjs";

const SIZE = 260;
const LEFT = 46;
const BOTTOM = 36;
const SCALES = [[0.9, 0.02], [0.8, 0.05], [0.5, 0.1], [0, 0.2]]; // where an axis may begin, and its ticks

const error = (each) => (each.n ? `${percent(each.absolute_share)} (${each.bias_share > 0 ? "+" : ""}${percent(each.bias_share)})` : UNKNOWN);
const COLUMNS = [
  { name: "target", of: (row) => row.target },
  { name: "attempts", right: true, of: (row) => count(row.attempts) },
  { name: "p95: first, end", right: true, of: (row) => `${percent(row.ttft.within_p95)}, ${percent(row.end.within_p95)}` },
  { name: "error: end", right: true, of: (row) => error(row.end_ms) },
  { name: "tokens", right: true, of: (row) => error(row.output_tokens) },
  { name: "cost", right: true, of: (row) => error(row.cost_usd) },
];

const LONG = ["7d", "30d"];

// Read from the rows themselves, of which there may be millions: once, and of a long time only when it is asked for.
export class Predictions extends Component {
  state = { wanted: !LONG.includes(this.props.since) };

  render({ since, team }, { wanted }) {
    if (!wanted) return html`<p><button onClick=${() => this.setState({ wanted: true })}>Compare predictions with what came</button> <span class="quiet">It takes a while for many requests.</span></p>`;
    const from = {
      points: address("reports/calibration", { since, team, group_by: "p_slo" }),
      targets: address("reports/calibration", { since, team, group_by: "target", limit: 1000 }),
    };
    return html`<${Load} name="comparison" from=${from} show=${({ points, targets }) => html`<${Compared} points=${points.data} targets=${targets.data} />`} />`;
  }
}

function Compared({ points, targets }) {
  const known = points.filter((each) => each.p_slo !== null && each.slo.n > 0);
  return html`<div class="split uneven">
      <figure class="chart"><figcaption>SLO met: predicted against observed</figcaption>
        ${known.length ? html`<${Plot} points=${known} />` : html`<p class="quiet">No promise was predicted and judged in this time.</p>`}</figure>
      <section><${Table} label="Predictions by target" columns=${COLUMNS} rows=${targets} height=${8} empty="Nothing was predicted in this time." />
        <p class="quiet">On the line, what was thought likely came as often. Of first tokens and ends, 95% ought to be within their predicted 95th percentile. An error is the mean of what it was off by, beside it the bias.</p></section>
    </div>`;
}

function Plot({ points }) {
  const low = Math.min(...points.map((each) => Math.min(each.slo.predicted, each.slo.low)));
  const [from, step] = SCALES.find(([begin]) => begin <= low) || SCALES.at(-1);
  const at = (value) => (value - from) / (1 - from);
  const x = (value) => LEFT + at(value) * SIZE;
  const y = (value) => 10 + (1 - at(value)) * SIZE;
  const ticks = Array.from({ length: Math.round((1 - from) / step) + 1 }, (_, i) => from + i * step);
  const most = Math.max(...points.map((each) => each.slo.n));
  const said = points.map((each) => `${percent(each.slo.predicted)} predicted, ${percent(each.slo.observed)} of ${each.slo.n} came true`).join("; ");
  return html`<svg class="reliability" viewBox=${`0 0 ${LEFT + SIZE + 24} ${SIZE + 10 + BOTTOM}`} role="img" aria-label=${said}>
    ${ticks.map((tick) => html`<line class="grid" x1=${x(tick)} x2=${x(tick)} y1=${y(1)} y2=${y(from)} /><line class="grid" x1=${x(from)} x2=${x(1)} y1=${y(tick)} y2=${y(tick)} />
      <text x=${x(tick)} y=${y(from) + 15} text-anchor="middle">${percent(tick)}</text><text x=${LEFT - 6} y=${y(tick) + 4} text-anchor="end">${percent(tick)}</text>`)}
    <line class="ideal" x1=${x(from)} y1=${y(from)} x2=${x(1)} y2=${y(1)} />
    ${points.map(({ slo }) => html`<g><title>${`${percent(slo.predicted)} predicted, ${percent(slo.observed)} came true, of ${slo.n}`}</title>
      <line class="range" x1=${x(slo.predicted)} x2=${x(slo.predicted)} y1=${y(Math.max(from, slo.low))} y2=${y(slo.high)} />
      <circle cx=${x(slo.predicted)} cy=${y(Math.max(from, slo.observed))} r=${3 + 4 * Math.sqrt(slo.n / most)} /></g>`)}
    <text x=${x(from) + SIZE / 2} y=${SIZE + 42} text-anchor="middle">predicted; the larger, the more requests</text>
  </svg>`;
}
