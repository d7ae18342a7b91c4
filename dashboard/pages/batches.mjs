// Batches: how far each is, what it costs, how long it will take; one of them with its targets, its files, and a way to stop it.
import { address, ask, send, state } from "./api.mjs";
import { count, decimal, moment, percent, span, UNKNOWN, usd } from "./format.mjs";
import { Component, html } from "./html.mjs";
import { Load, save } from "./load.mjs";
import { Tile } from "./overview.mjs";
import { link } from "./router.mjs";
import { Table } from "./table.mjs";

const LOOKS = 12; // that a rate is of: a minute's
const COLOURS = { completed: "good", failed: "bad", expired: "bad", cancelled: "quiet" };

const failed = ({ rows }) => rows.errored + rows.expired;
const COLUMNS = [
  { name: "made, UTC", of: (row) => html`<a href=${link("batches", {}, row.id)}>${moment(row.created_at)}</a>` },
  { name: "team", of: (row) => row.team },
  { name: "state", of: (row) => html`<span class=${COLOURS[row.status] || ""}>${row.status.replace("_", " ")}</span>` },
  { name: "rows", of: (row) => html`<${Meter} row=${row} />` },
  { name: "done", right: true, of: (row) => (row.rows.total === null ? UNKNOWN : `${count(row.rows.done)} of ${count(row.rows.total)}`) },
  { name: "failed", right: true, of: (row) => html`<span class=${failed(row) ? "bad" : ""}>${count(failed(row))}</span>` },
  { name: "tokens/s", right: true, of: (row) => decimal(row.output_tokens_per_s) },
  { name: "cost", right: true, of: (row) => cost(row) },
  { name: "projected", right: true, of: (row) => usd(row.projected_usd) },
  { name: "time left", right: true, of: (row) => span(row.eta_s) },
  { name: "endpoint", of: (row) => row.endpoint.replace("/v1/", "") },
];

export function Batches({ team, tick }) {
  const columns = COLUMNS.filter(({ name }) => name !== "team" || (state.api === "/admin" && !team));
  const show = ({ batches }) => html`<${Table} label="Batches" columns=${columns} rows=${batches.data} height=${18} empty="No batch was made yet: docs/batch.md says how." />`;
  return html`<${Load} from=${{ batches: address("reports/batches", { team, limit: 200 }) }} tick=${tick} show=${show} />`;
}

// What is known of the cost: rows with an answer and no price have none.
const cost = (row) => (row.unpriced_rows && !row.cost_usd ? UNKNOWN : `${usd(row.cost_usd)}${row.unpriced_rows ? " +" : ""}`);

function Meter({ row }) {
  const { total, done } = row.rows;
  const part = (n) => (total ? (100 * n) / total : 0);
  const said = total ? `${percent(done / total)} done, ${failed(row)} failed` : "not counted yet";
  return html`<svg class="meter" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label=${said}>
    <title>${said}</title>
    <rect class="ok" width=${part(row.rows.succeeded)} height="10" />
    <rect class="failed" x=${part(row.rows.succeeded)} width=${part(failed(row))} height="10" />
  </svg>`;
}

export function BatchPage({ id, tick }) {
  const from = { batch: address(`reports/batches/${encodeURIComponent(id)}`) };
  return html`<p><a href=${link("batches")}>All batches</a></p>
    <${Load} name="batch" from=${from} tick=${tick} show=${({ batch }) => html`<${Shown} batch=${batch} />`} />`;
}

class Shown extends Component {
  state = { looks: [], asked: false, error: null, stopped: null };

  // Rates of the last looks, where there are two; else the batch's own means.
  static getDerivedStateFromProps({ batch }, { looks }) {
    const last = looks.at(-1);
    return last?.batch === batch ? null : { looks: [...looks, { at: performance.now() / 1000, batch }].slice(-LOOKS) };
  }

  pace({ batch }, { looks }) {
    const first = looks[0];
    const passed = performance.now() / 1000 - first.at;
    const rows = batch.rows.done - first.batch.rows.done;
    if (batch.ended || looks.length < 2 || rows <= 0) return { rows: batch.rows_per_s, tokens: batch.output_tokens_per_s, left: batch.eta_s };
    const rate = rows / passed;
    return { rows: rate, tokens: (batch.tokens.output - first.batch.tokens.output) / passed, left: (batch.rows.total - batch.rows.done) / rate };
  }

  cancel = async () => {
    const { batch } = this.props;
    const kind = batch.dialect === "anthropic" && state.api === "/v1" ? "messages/batches" : "batches";
    try {
      await send(address(`${kind}/${encodeURIComponent(batch.id)}/cancel`));
      this.setState({ asked: false, stopped: true, error: null });
    } catch (error) {
      this.setState({ asked: false, error });
    }
  };

  render({ batch }, { asked, error, stopped, looks }) {
    const { rows } = batch;
    const pace = this.pace({ batch }, { looks });
    const running = ["validating", "in_progress"].includes(batch.status);
    const facts = { id: batch.id, team: batch.team, endpoint: batch.endpoint, made: moment(batch.created_at), [batch.ended ? "ended" : "expires"]: moment(batch.ended_at || batch.expires_at) };
    return html`<dl class="tiles">
        <${Tile} name="State" value=${html`<span class=${COLOURS[batch.status] || ""}>${batch.status.replace("_", " ")}</span>`} beside=${rows.total ? percent(rows.done / rows.total) : null} />
        <${Tile} name="Rows done" value=${count(rows.done)} beside=${rows.total === null ? "not counted yet" : `of ${count(rows.total)}`} />
        <${Tile} name="Failed" value=${count(failed(batch))} beside=${rows.cancelled ? `${count(rows.cancelled)} cancelled` : null} />
        <${Tile} name="Output tokens/s" value=${decimal(pace.tokens)} beside=${`${decimal(pace.rows)} rows/s`} />
        <${Tile} name="Cost so far" value=${cost(batch)} beside=${batch.unpriced_rows ? `${count(batch.unpriced_rows)} rows without a price` : null} />
        <${Tile} name="Projected" value=${usd(batch.projected_usd)} beside="for all rows" />
        <${Tile} name="Time left" value=${batch.ended ? "none" : span(pace.left)} />
      </dl>
      <p><${Meter} row=${batch} /></p>
      ${error && html`<p class="error" role="alert">${error.message}</p>`}
      ${running && !stopped && html`<div class="row">${asked
        ? html`<span>What was answered stays. Cancel it?</span><button class="main" onClick=${this.cancel}>Yes, cancel it</button><button onClick=${() => this.setState({ asked: false })}>No</button>`
        : html`<button onClick=${() => this.setState({ asked: true })}>Cancel this batch</button>`}</div>`}
      ${stopped && !batch.ended && html`<p role="status">It is being cancelled.</p>`}
      <div class="split">
        <section><h2>Answered by</h2><${Shares} targets=${batch.targets} /></section>
        <section><h2>About it</h2><div class="panel"><dl class="facts">${Object.entries(facts).map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}
          ${batch.repeated_rows > 0 && html`<dt>asked twice</dt><dd>${count(batch.repeated_rows)} rows, which a gateway that died had in hand</dd>`}
          <dt>files</dt><dd><${Files} files=${batch.files} /></dd></dl></div></section>
      </div>`;
  }
}

function Shares({ targets }) {
  const all = Object.values(targets).reduce((total, each) => total + each, 0);
  const rows = Object.entries(targets).map(([target, n]) => ({ target, n, share: n / all })).sort((a, b) => b.n - a.n);
  const columns = [
    { name: "target", of: (row) => row.target },
    { name: "share", of: (row) => html`<${Bar} share=${row.share} />` },
    { name: "", right: true, of: (row) => percent(row.share) },
    { name: "rows", right: true, of: (row) => count(row.n) },
  ];
  return html`<${Table} label="Answered by" columns=${columns} rows=${rows} height=${8} empty="No row was answered yet." />`;
}

export function Bar({ share, kind = "used" }) {
  return html`<svg class="meter" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class=${kind} width=${100 * (share || 0)} height="10" /></svg>`;
}

// What is in them is the team's: only its own key opens them.
function Files({ files }) {
  const found = Object.entries(files);
  if (!found.length) return "none yet";
  if (state.api === "/admin") return `${found.map(([kind]) => kind).join(", ")}: for the team's own keys`;
  const download = async (kind, url) => save(await (await ask(url)).blob(), `${kind}.jsonl`);
  return html`${found.map(([kind, url]) => html`<button onClick=${() => download(kind, url)}>Save ${kind}</button> `)}`;
}
