// Requests, the newest first: filters in the address, more of them as one scrolls.
import { address, get } from "./api.mjs";
import { moment, ms, usd } from "./format.mjs";
import { Component, html } from "./html.mjs";
import { Sources } from "./load.mjs";
import { link, set } from "./router.mjs";
import { Table } from "./table.mjs";

const PAGE = 200;
const FILTERS = ["status", "model", "target", "key", "policy"];
const STATUSES = ["ok", "failed", "cut", "client_closed", "abandoned"];

export class Requests extends Component {
  state = { rows: [], next: null, busy: true, error: null };

  componentDidMount() {
    this.begin();
  }

  componentDidUpdate(before) {
    if (this.address(before) !== this.address()) this.begin();
    else if (before.tick !== this.props.tick && !this.state.busy && this.state.rows.length <= PAGE) this.begin(true);
  }

  componentWillUnmount() {
    this.gone = true;
  }

  address({ query, since, team } = this.props, more = {}) {
    return address("requests", { since, team, ...Object.fromEntries(FILTERS.map((name) => [name, query[name]])), limit: PAGE, ...more });
  }

  async begin(quietly = false) {
    if (!quietly) this.setState({ busy: true });
    await this.read(this.address(), (page) => ({ rows: page.data, next: page.next_cursor }));
  }

  more = () => {
    if (this.state.busy || !this.state.next) return;
    this.setState({ busy: true });
    this.read(this.address(this.props, { cursor: this.state.next }), (page) => ({ rows: this.state.rows.concat(page.data), next: page.next_cursor }));
  };

  async read(url, told) {
    const turn = (this.turn = (this.turn || 0) + 1);
    try {
      const page = await get(url);
      if (!this.gone && turn === this.turn) this.setState({ ...told(page), busy: false, error: null });
    } catch (error) {
      if (this.gone || turn !== this.turn) return;
      this.setState({ error, busy: false });
      if (error.status === 401) dispatchEvent(new Event("signedout"));
    }
  }

  render({ query, team }, { rows, next, busy, error }) {
    const columns = [
      { name: "time, UTC", of: (row) => html`<a href=${link("requests", {}, row.request_id)}>${moment(row.time)}</a>` },
      { name: "status", of: (row) => html`<span class=${row.status === "ok" ? "good" : "bad"}>${row.status}</span>` },
      { name: "model", of: (row) => row.model },
      { name: "target", of: (row) => row.attempts.map((each) => each.target).join(" → ") },
      ...(team ? [] : [{ name: "team", of: (row) => row.team }]),
      { name: "attempts", right: true, of: (row) => row.attempts.filter((each) => each.attempt > 0).length }, // a refused request has a row, which is no attempt
      { name: "first token", right: true, of: (row) => ms(row.attempts.at(-1)?.ms.first_token) },
      { name: "end", right: true, of: (row) => ms(row.attempts.at(-1)?.ms.end) },
      { name: "cost", right: true, of: (row) => usd(row.cost_usd) },
    ];
    return html`<form class="row" onSubmit=${(event) => event.preventDefault()}>
        <label>Status <select value=${query.status || ""} onChange=${(event) => set({ status: event.target.value })}>
          <option value="">any</option>${STATUSES.map((status) => html`<option value=${status}>${status}</option>`)}
        </select></label>
        ${FILTERS.slice(1).map((name) => html`<label>${name[0].toUpperCase() + name.slice(1)} <input key=${query[name]} defaultValue=${query[name] || ""} onChange=${(event) => set({ [name]: event.target.value })} /></label>`)}
      </form>
      ${error && html`<p class="error" role="alert">${error.message}</p>`}
      <p class="quiet" role="status">${busy ? "Loading…" : `${rows.length} requests${next ? ", and more below" : ""}`}</p>
      <${Table} label="Requests" columns=${columns} rows=${rows} onEnd=${this.more} height=${18} empty=${busy ? "Loading…" : "No request matches."} />
      <${Sources} addresses=${[this.address()]} />`;
  }
}
