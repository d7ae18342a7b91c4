// The frame around the pages: who looks, where they are, of which time and team, and how often it is looked again.
import { about, get, key, leave, state, whoAmI } from "./api.mjs";
import { BatchPage, Batches } from "./batches.mjs";
import { Engines } from "./engines.mjs";
import { Component, html, render } from "./html.mjs";
import { Latency } from "./latency.mjs";
import { Models } from "./models.mjs";
import { Overview } from "./overview.mjs";
import { Playground } from "./playground.mjs";
import { RequestPage } from "./request.mjs";
import { Requests } from "./requests.mjs";
import { here, link, set } from "./router.mjs";
import { Routing } from "./routing.mjs";
import { SignIn } from "./sign_in.mjs";
import { Spend } from "./spend.mjs";
import { Targets } from "./targets.mjs";
import { Teams } from "./teams.mjs";
import { apply, dark, toggle } from "./theme.mjs";

// Name in the address -> title and page; and of one thing on it, where such open.
const PAGES = {
  overview: ["Overview", Overview],
  spend: ["Spend", Spend],
  latency: ["Latency", Latency],
  requests: ["Requests", Requests, ["Request", RequestPage]],
  teams: ["Teams and budgets", Teams],
  models: ["Models and prices", Models],
  routing: ["Routing", Routing],
  targets: ["Targets", Targets],
  engines: ["Engines", Engines],
  batches: ["Batches", Batches, ["Batch", BatchPage]],
  playground: ["Playground", Playground],
};
const SPANS = { "15m": "15 minutes", "1h": "1 hour", "24h": "24 hours", "7d": "7 days", "30d": "30 days" };
const LIVE_MS = 5000;

class App extends Component {
  state = { ready: false, at: here(), tick: 0, live: true, teams: [], error: null };

  componentDidMount() {
    addEventListener("hashchange", () => this.setState({ at: here() }, this.arrived));
    addEventListener("signedout", () => this.signedOut());
    addEventListener("themechange", () => this.forceUpdate());
    setInterval(() => this.state.live && !document.hidden && this.setState({ tick: this.state.tick + 1 }), LIVE_MS);
    this.begin();
  }

  begin = async () => {
    try {
      await about();
      if (!key() && !state.signIn) return this.setState({ ready: true, error: null });
      await whoAmI();
      const teams = state.api === "/admin" ? (await get("/admin/teams")).data.map((each) => each.team) : [];
      if (teams.length > 1 && !state.session.roles.some((role) => role !== "team-owner") && !here().query.team) set({ team: teams[0] });
      this.setState({ ready: true, teams, error: null, at: here() });
    } catch (error) {
      this.setState({ ready: true, error });
    }
  };

  shown() {
    const { page, thing } = this.state.at;
    const found = PAGES[page];
    return thing && found?.[2] ? found[2] : found;
  }

  arrived = () => {
    const [title] = this.shown() || ["Not found"];
    document.title = `${title} · Turnout`;
  };

  signedOut() {
    state.session = null;
    this.setState({ error: null });
  }

  leave = async () => {
    const next = await leave();
    if (next) location.href = next;
    this.forceUpdate();
  };

  render(_, { ready, at, tick, live, teams, error }) {
    if (!ready) return html`<p class="notice" aria-busy="true">Loading…</p>`;
    if (!state.session) return html`<${SignIn} error=${error} done=${this.begin} />`;
    const shown = Object.entries(PAGES).filter(([name]) => name !== "playground" || state.api === "/v1");
    const there = shown.some(([name]) => name === at.page);
    const [title, Page] = there ? this.shown() : ["There is no such page", () => null];
    const since = SPANS[at.query.since] ? at.query.since : "24h";
    return html`<div class="frame">
      <a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), document.getElementById("main").focus())}>Skip to the page</a>
      <header class="bar">
        <strong>Turnout</strong>
        ${teams.length > 0 && html`<label>Team <select value=${at.query.team || ""} onChange=${(event) => set({ team: event.target.value })}>
          ${state.session.roles.some((role) => role !== "team-owner") && html`<option value="">all</option>`}
          ${teams.map((team) => html`<option value=${team}>${team}</option>`)}
        </select></label>`}
        <label>Time <select value=${since} onChange=${(event) => set({ since: event.target.value })}>
          ${Object.entries(SPANS).map(([span, text]) => html`<option value=${span}>${text}</option>`)}
        </select></label>
        <button aria-pressed=${live} onClick=${() => this.setState({ live: !live })}>${live ? "Live" : "Paused"}</button>
        <button onClick=${toggle}>${dark() ? "Light" : "Dark"}</button>
        <span class="quiet">${state.session.team || state.session.name}</span>
        <button onClick=${this.leave}>Sign out</button>
      </header>
      <nav aria-label="Pages"><ul>
        ${shown.map(([name, [text]]) => html`<li><a href=${link(name)} aria-current=${name === at.page ? "page" : null}>${text}</a></li>`)}
      </ul></nav>
      <main id="main" tabindex="-1">
        <h1>${title}</h1>
        <${Page} key=${`${at.page}/${at.thing || ""}`} id=${at.thing} query=${at.query} since=${since} team=${at.query.team || null} tick=${tick} />
      </main>
    </div>`;
  }
}

apply();
render(html`<${App} />`, document.getElementById("app"));
