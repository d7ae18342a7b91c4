// The policy of each model, and what would be decided about a request now.
import { address, get } from "./api.mjs";
import { Component, html } from "./html.mjs";
import { Load, Sources } from "./load.mjs";
import { Replay } from "./replay.mjs";
import { Decision } from "./request.mjs";
import { set } from "./router.mjs";
import { Table } from "./table.mjs";

const slo = ({ ttft_s, tokens_per_s, deadline_s }) =>
  [ttft_s && `first token ${ttft_s * 1000} ms`, tokens_per_s && `${tokens_per_s} tokens/s`, deadline_s && `whole in ${deadline_s} s`].filter(Boolean).join(", ") || "none";
const COLUMNS = [
  { name: "model", of: (row) => row.model },
  { name: "policy", of: (row) => row.policy.name },
  { name: "objective", of: (row) => row.policy.objective },
  { name: "SLO", of: (row) => slo(row.policy.slo) },
  { name: "targets", of: (row) => row.targets.map((each) => each.target).join(", ") },
  { name: "fallback", of: (row) => row.policy.fallback },
  { name: "residency", of: (row) => [row.policy.residency].flat().join(", ") },
  { name: "hedge", of: (row) => row.policy.hedge_after ?? "no" },
  { name: "recovery", of: (row) => row.policy.recovery },
];

export function Routing({ query, since, team, tick }) {
  const show = ({ routing }) => html`<${Table} label="Policies" columns=${COLUMNS} rows=${routing.data} />
    <h2>Explain</h2>
    <${Explain} query=${query} team=${team} models=${routing.data.map((each) => each.model)} />
    <h2>Replay</h2>
    <${Replay} query=${query} since=${since} team=${team} routing=${routing.data} />`;
  return html`<${Load} from=${{ routing: address("routing", { team }) }} tick=${tick} show=${show} />`;
}

class Explain extends Component {
  state = { decision: null, error: null };

  componentDidMount() {
    this.ask();
  }

  componentDidUpdate(before) {
    if (this.address(before) !== this.address()) this.ask();
  }

  address({ query, team, models } = this.props) {
    const model = query.model || models.find((name) => !name.includes("*"));
    return model ? address("explain", { team, model, prompt_tokens: query.prompt_tokens, max_tokens: query.max_tokens, stream: query.unary ? "false" : "true" }) : null;
  }

  async ask() {
    if (!this.address()) return;
    try {
      this.setState({ decision: await get(this.address()), error: null });
    } catch (error) {
      this.setState({ decision: null, error });
    }
  }

  submit = (event) => {
    event.preventDefault();
    const { model, prompt_tokens, max_tokens, unary } = event.target.elements;
    set({ model: model.value, prompt_tokens: prompt_tokens.value, max_tokens: max_tokens.value, unary: unary.checked ? "1" : "" });
    this.ask();
  };

  render({ query, models }, { decision, error }) {
    return html`<form class="row" onSubmit=${this.submit}>
        <label>Model <input name="model" list="models" required defaultValue=${query.model || models.find((name) => !name.includes("*")) || ""} /></label>
        <datalist id="models">${models.map((name) => html`<option value=${name} />`)}</datalist>
        <label>Prompt tokens <input name="prompt_tokens" type="number" min="0" defaultValue=${query.prompt_tokens || 1000} /></label>
        <label>Most tokens of the answer <input name="max_tokens" type="number" min="1" defaultValue=${query.max_tokens || ""} /></label>
        <label>Not streamed <input name="unary" type="checkbox" checked=${Boolean(query.unary)} /></label>
        <button class="main">Explain</button>
      </form>
      ${error && html`<p class="error" role="alert">${error.message}</p>`}
      ${decision && html`<${Decision} decision=${decision} />`}
      ${this.address() && html`<${Sources} addresses=${[this.address()]} name="answer" />`}`;
  }
}
