// What another policy would have done with the requests of this time: asked of the gateway, waited for, and set beside what happened.
import { address, get, send, state } from "./api.mjs";
import { Bar } from "./batches.mjs";
import { change, count, moment, ms, percent, UNKNOWN, usd } from "./format.mjs";
import { Component, html } from "./html.mjs";
import { Sources } from "./load.mjs";
import { Tile } from "./overview.mjs";
import { set } from "./router.mjs";
import { Table } from "./table.mjs";

const WAIT_S = 2;

// A first policy to try: as cheap as the first model's own promise lets it be.
function draft(routing) {
  const found = routing.find((each) => !each.model.includes("*"));
  if (!found) return "";
  const ttft = found.policy.slo.ttft_s;
  const slo = `{ttft_p95_ms: ${ttft ? Math.round(ttft * 1000) : 1000}}`;
  return `policies:\n  trial:\n    objective: ${found.policy.objective === "cheapest" ? "fastest" : "cheapest"}\n    slo: ${slo}\nmodels:\n  ${found.model}: {policy: trial}\n`;
}

export class Replay extends Component {
  state = { told: null, error: null, busy: false };

  componentDidMount() {
    if (this.props.query.replay) this.follow(this.props.query.replay);
  }

  componentDidUpdate(before) {
    const id = this.props.query.replay;
    if (id !== before.query.replay && id && id !== this.state.told?.id) this.follow(id);
  }

  componentWillUnmount() {
    this.gone = true;
  }

  submit = async (event) => {
    event.preventDefault();
    const { policy } = event.target.elements;
    const { since, team } = this.props;
    this.setState({ busy: true, error: null, told: null });
    try {
      const told = await send(address("replay"), { policy: policy.value, since, ...(state.api === "/admin" && team ? { team } : {}) });
      this.setState({ told });
      set({ replay: told.id });
      await this.follow(told.id);
    } catch (error) {
      this.setState({ error, busy: false });
    }
  };

  address = (id, more) => address(`replay/${encodeURIComponent(id)}`, { team: state.api === "/admin" ? this.props.team : null, ...more });

  async follow(id) {
    this.setState({ busy: true });
    try {
      do {
        const told = await get(this.address(id, { wait_s: WAIT_S }));
        if (this.gone) return;
        this.setState({ told, error: null });
        if (told.status !== "running") break;
      } while (!this.gone);
    } catch (error) {
      this.setState({ error });
    } finally {
      this.setState({ busy: false });
    }
  }

  render({ routing }, { told, error, busy }) {
    return html`<form onSubmit=${this.submit}>
        <p><label>Policies to try, in the words of turnout.yaml
          <textarea class="code" name="policy" required spellcheck="false" defaultValue=${draft(routing)}></textarea></label></p>
        <div class="row"><button class="main" disabled=${busy}>Replay this time's requests</button>
          <span class="quiet">Nobody is asked and nothing is changed. What is not named stays as it is.</span></div>
      </form>
      ${error && html`<p class="error" role="alert">${error.message}</p>`}
      ${told?.status === "running" && html`<p role="status"><progress max="1" value=${told.progress} aria-label="Replay"></progress> ${percent(told.progress)}</p>`}
      ${told?.status === "failed" && html`<p class="error" role="alert">The replay failed: ${told.error}</p>`}
      ${told?.status === "done" && html`<${Result} told=${told} /><${Sources} addresses=${[this.address(told.id)]} name="replay" />`}`;
  }
}

const points = (shares) => (shares.recorded === null || shares.replayed === null ? UNKNOWN : `${shares.replayed >= shares.recorded ? "+" : "−"}${(Math.abs(shares.replayed - shares.recorded) * 100).toFixed(1)} points`);
const good = (value, lower = true) => (!value ? "" : value < 0 === lower ? "good" : "bad");

function Result({ told }) {
  const { result } = told;
  if (!result.requests.planned) return html`<p class="quiet">No request of this time can be planned again.</p>`;
  const { cost, ttft, end, slo, no_evidence: without } = result;
  const more = cost.replayed_usd === null ? null : Number(cost.replayed_usd) - Number(cost.recorded_usd);
  const slower = ttft.replayed_p95_ms === null || ttft.recorded_p95_ms === null ? null : ttft.replayed_p95_ms - ttft.recorded_p95_ms;
  const figures = [
    ["cost", usd(cost.recorded_usd), usd(cost.replayed_usd), change(cost.change), cost.requests],
    ...["p50", "p95"].map((p) => [`first token, ${p}`, ms(ttft[`recorded_${p}_ms`]), ms(ttft[`replayed_${p}_ms`]), change(ttft[`${p}_change`]), ttft.replayed]),
    ...["p50", "p95"].map((p) => [`whole answer, ${p}`, ms(end[`recorded_${p}_ms`]), ms(end[`replayed_${p}_ms`]), change(end[`${p}_change`]), end.replayed]),
    ...[["SLO kept", slo], ["failed", result.failed]].map(([name, each]) => [name, percent(each.recorded), percent(each.replayed), points(each), each.requests]),
  ];
  return html`<p class="quiet">${count(result.requests.planned)} requests from ${moment(told.from)} to ${moment(told.to)}${told.team ? ` of ${told.team}` : ""}; ${percent(result.same_target)} would have gone to the same target first.</p>
    <dl class="tiles">
      <${Tile} name="Cost" value=${html`<span class=${good(more)}>${change(cost.change)}</span>`} beside=${more === null ? null : `${more > 0 ? "+" : "−"}${usd(Math.abs(more))}`} />
      <${Tile} name="First token, p95" value=${html`<span class=${good(slower)}>${change(ttft.p95_change)}</span>`} beside=${slower === null ? null : `${slower > 0 ? "+" : "−"}${ms(Math.abs(slower))}`} />
      <${Tile} name="SLO kept" value=${percent(slo.replayed)} beside=${slo.recorded === null ? "none was promised" : `${percent(slo.recorded)} recorded`} />
      <${Tile} name="With evidence" value=${percent(without.share === null ? null : 1 - without.share)} beside=${without.requests ? `${count(without.requests)} requests without` : "of all requests"} />
    </dl>
    <div class="split">
      <section><h3>Figures</h3><${Table} label="Figures of the replay" height=${8} rows=${figures} columns=${["", "recorded", "replayed", "change", "requests"].map((name, i) => ({ name, right: i > 0, of: (row) => (i === 4 ? count(row[4]) : row[i]) }))} /></section>
      <section><h3>First choice</h3><${Table} label="First choices of the replay" height=${8} rows=${result.targets} columns=${CHOICES} /></section>
    </div>
    ${result.budgets.length > 0 ? html`<h3>Budgets that are exceeded</h3><${Table} label="Budgets that are exceeded" height=${6} rows=${result.budgets} columns=${BEYOND} />` : html`<p class="quiet">No budget is exceeded.</p>`}`;
}

const CHOICES = [
  { name: "target", of: (row) => (row.owned ? `${row.target} (own)` : row.target) },
  { name: "recorded", right: true, of: (row) => percent(row.recorded_share) },
  { name: "", of: (row) => html`<${Bar} share=${row.recorded_share} kind="before" />` },
  { name: "replayed", right: true, of: (row) => percent(row.replayed_share) },
  { name: "", of: (row) => html`<${Bar} share=${row.replayed_share} />` },
  { name: "no evidence", right: true, of: (row) => count(row.no_evidence) },
];
const BEYOND = [
  { name: "budget", of: (row) => row.scope },
  { name: "window", of: (row) => `${row.window}${row.from ? ` from ${moment(row.from)}` : ""}` },
  { name: "US dollars", right: true, of: (row) => usd(row.budget_usd) },
  { name: "recorded", right: true, of: (row) => usd(row.recorded_usd) },
  { name: "replayed", right: true, of: (row) => usd(row.replayed_usd) },
  { name: "exceeded then", of: (row) => moment(row.recorded_beyond) },
  { name: "exceeded now", of: (row) => moment(row.replayed_beyond) },
];
