// What a page shows is loaded here: anew when its addresses change and at every tick; what was there stays meanwhile.
import { ask, get } from "./api.mjs";
import { Component, html } from "./html.mjs";

const MOST = 1000;

export class Load extends Component {
  state = { found: null, error: null };

  componentDidMount() {
    this.load(true);
  }

  componentDidUpdate(before) {
    const other = JSON.stringify(before.from) !== JSON.stringify(this.props.from);
    if (other || (before.tick !== this.props.tick && !this.busy)) this.load(other);
  }

  componentWillUnmount() {
    this.gone = true;
  }

  async load(other) {
    const turn = (this.turn = (this.turn || 0) + 1);
    const names = Object.keys(this.props.from);
    this.busy = true;
    try {
      const answers = await Promise.all(names.map((name) => get(this.props.from[name])));
      if (!this.gone && turn === this.turn) this.setState({ found: Object.fromEntries(names.map((name, i) => [name, answers[i]])), error: null });
    } catch (error) {
      if (this.gone || turn !== this.turn) return;
      this.setState({ error, found: other ? null : this.state.found });
      if (error.status === 401) dispatchEvent(new Event("signedout"));
    } finally {
      if (turn === this.turn) this.busy = false;
    }
  }

  render({ from, show, name }, { found, error }) {
    return html`
      ${error && html`<p class="error" role="alert">${error.message}</p>`}
      ${!found && !error && html`<p class="quiet" aria-busy="true">Loading…</p>`}
      ${found && Object.values(found).some((each) => each.whole === false) && html`<p class="quiet" role="status">Sums are still being made, or rows of a part of this time were deleted: these figures are not whole.</p>`}
      ${found && Object.values(found).some((each) => each.next_cursor) && html`<p class="quiet" role="status">More than ${MOST} lines: the first of them are shown. A shorter time or fewer groups show all.</p>`}
      ${found && show(found)}
      <${Sources} addresses=${Object.values(from)} name=${name} />
    `;
  }
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function download(address) {
  const text = JSON.stringify(await (await ask(address)).json(), null, 2);
  save(new Blob([text], { type: "application/json" }), `${address.split("?")[0].split("/").filter(Boolean).join("-")}.json`);
}

export function Sources({ addresses, name = "page" }) {
  return html`<details class="sources">
    <summary>JSON of this ${name}</summary>
    <ul>
      ${addresses.map((each) => html`<li><code>GET ${each}</code> <button onClick=${() => download(each)}>Save<span class="hidden"> ${each}</span></button></li>`)}
    </ul>
  </details>`;
}
