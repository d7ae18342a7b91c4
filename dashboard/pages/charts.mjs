// Charts: uPlot, in the theme's colours. What a chart shows is also said in words, for those who do not see it.
import uPlot from "/dashboard/npm/uPlot.esm.js";
import { count } from "./format.mjs";
import { Component, createRef, html } from "./html.mjs";
import { colour } from "./theme.mjs";

const COLOURS = ["series-1", "series-2", "series-3", "series-4", "series-5", "series-6"];
const HEIGHT = 190;
const DAY = 86_400;

const moment = (at) => new Date(at * 1000).toISOString().slice(0, 16).replace("T", " ");
// A moment of UTC on an axis: the date at midnight, the time otherwise.
const clock = (at) => new Date(at * 1000).toISOString().slice(...(at % DAY ? [11, 16] : [5, 10]));

// Pixels for an axis' labels, the longest of them whole.
const room = (_, labels) => Math.max(44, 22 + 7 * Math.max(0, ...(labels || []).map((each) => String(each ?? "").length)));

// The places of values without a neighbour, to which no line leads: each is shown as a point.
function alone(values) {
  const known = (i) => values[i] !== null && values[i] !== undefined;
  const found = [...values.keys()].filter((i) => known(i) && !known(i - 1) && !known(i + 1));
  return found.length ? found : null;
}

// `x`: seconds of Unix time, or any numbers where `time` is false; `series`: {label, values, dash, marks}, `marks`: points without a line;
// `form`: how a value is written; `formX`: the same of `x`.
export class Chart extends Component {
  place = createRef();

  componentDidMount() {
    this.draw();
    this.watch = new ResizeObserver(() => this.plot?.setSize({ width: this.width(), height: HEIGHT }));
    this.watch.observe(this.place.current);
    addEventListener("themechange", this.draw);
  }

  componentDidUpdate(before) {
    const labels = (props) => props.series.map((each) => each.label).join("\n");
    if (this.plot && labels(before) === labels(this.props)) this.plot.setData(this.data());
    else this.draw();
  }

  componentWillUnmount() {
    removeEventListener("themechange", this.draw);
    this.watch.disconnect();
    this.plot?.destroy();
  }

  width = () => this.place.current.clientWidth || 300;
  data = () => [this.props.x, ...this.props.series.map((each) => each.values)];

  draw = () => {
    this.plot?.destroy();
    this.plot = null;
    const { x, series, form = count, formX = count, time = true, xLabel, bars } = this.props;
    if (!x.length) return;
    const axis = { stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 } };
    const whole = (_, low, high) => [low - (x[1] - x[0]) / 2, high + (x[1] - x[0]) / 2]; // the first and the last bar too
    const paths = bars ? uPlot.paths.bars({ size: [0.7, 40] }) : undefined;
    const line = (each, i) => {
      const stroke = colour(COLOURS[i % COLOURS.length]);
      const points = each.marks ? { show: true, size: 11, fill: stroke } : { show: false, size: 7, fill: stroke, filter: (plot, at) => (bars ? null : alone(plot.data[at])) };
      const drawn = each.marks ? () => null : paths;
      return { label: each.label, stroke, width: 2, dash: each.dash, paths: drawn, fill: bars ? stroke : undefined, spanGaps: Boolean(each.whole), points, value: (_, v) => form(v) };
    };
    const options = {
      width: this.width(),
      height: HEIGHT,
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
      scales: { x: { time, range: bars && x.length > 1 ? whole : undefined }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
      axes: [{ ...axis, label: xLabel, labelSize: 18, values: (_, ticks) => ticks.map(time ? clock : formX) }, { ...axis, size: room, values: (_, ticks) => ticks.map(form) }],
      series: [time ? {} : { label: xLabel }, ...series.map(line)],
      legend: { live: false },
      cursor: { y: false, drag: { x: false, y: false } },
    };
    this.plot = new uPlot(options, this.data(), this.place.current);
    this.plot.root.setAttribute("aria-hidden", "true");
  };

  render({ title, x, series, form = count, time = true }) {
    const last = (each) => each.values.findLast?.((value) => value !== null && value !== undefined);
    const said = x.length ? series.map((each) => `${each.label}: last ${form(last(each))}`).join("; ") : "nothing in this time";
    const span = x.length && time ? ` (${moment(x[0])} to ${moment(x.at(-1))})` : "";
    return html`<figure class="chart">
      <figcaption>${title}</figcaption>
      <div class="plot" ref=${this.place} role="img" aria-label=${`${title}${span}. ${said}`}></div>
      ${!x.length && html`<p class="quiet">Nothing in this time.</p>`}
    </figure>`;
  }
}

// Lines of a report by time (and perhaps another group) as a chart's x and series. `whole`: {from, to} of the report: all of the time that was asked
// for is on the axis, with nothing where nothing was; without it, every step from the first line to the last.
export function byTime(lines, time, value, { group = null, whole = null, most = 6 } = {}) {
  const step = { minute: 60, hour: 3600, day: 86400 }[time];
  const at = lines.map((line) => Date.parse(line[time]) / 1000);
  if (!at.length) return { x: [], series: [] };
  const ends = whole === null ? [] : [Date.parse(whole.from) / 1000, Date.parse(whole.to) / 1000].map((each) => Math.floor(each / step) * step);
  const begin = [...at, ...ends].reduce((a, b) => Math.min(a, b));
  const x = Array.from({ length: Math.round(([...at, ...ends].reduce((a, b) => Math.max(a, b)) - begin) / step) + 1 }, (_, i) => begin + i * step);
  const found = new Map();
  lines.forEach((line, i) => {
    const label = group ? String(line[group] || "(none)") : "all";
    if (!found.has(label)) found.set(label, Array(x.length).fill(null));
    const read = value(line);
    found.get(label)[Math.round((at[i] - begin) / step)] = read === null || read === undefined ? null : Number(read);
  });
  const weight = (values) => values.reduce((total, each) => total + (each || 0), 0);
  const series = [...found].map(([label, values]) => ({ label, values })).sort((a, b) => weight(b.values) - weight(a.values));
  return { x, series: series.slice(0, most) };
}

export const stepOf = (since) => (["15m", "1h"].includes(since) ? "minute" : since === "30d" ? "day" : "hour");
