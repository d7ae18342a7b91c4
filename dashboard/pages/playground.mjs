// A chat through the gateway: the answer as it streams, what it took, and why it went where it went.
import { address, ask, get } from "./api.mjs";
import { ms, UNKNOWN, usd } from "./format.mjs";
import { Component, html } from "./html.mjs";
import { Load } from "./load.mjs";
import { link } from "./router.mjs";
import { Decision, Waterfall } from "./request.mjs";

export class Playground extends Component {
  state = { text: "", busy: false, error: null, seen: null, request: null, decision: null };

  componentWillUnmount() {
    this.stop?.abort();
  }

  send = async (event) => {
    event.preventDefault();
    const { model, prompt, max_tokens } = event.target.elements;
    const body = { model: model.value, stream: true, messages: [{ role: "user", content: prompt.value }] };
    if (max_tokens.value) body.max_tokens = Number(max_tokens.value);
    this.stop = new AbortController();
    this.setState({ text: "", busy: true, error: null, seen: null, request: null, decision: null });
    const began = performance.now();
    let text = "";
    try {
      const answer = await ask("/v1/chat/completions", { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" }, signal: this.stop.signal });
      const seen = { id: answer.headers.get("x-request-id"), target: answer.headers.get("x-turnout-target"), first: null };
      await events(answer.body, (data) => {
        if (data.error) throw new Error(data.error.message);
        const piece = data.choices?.[0]?.delta?.content || "";
        if (piece && seen.first === null) seen.first = performance.now() - began;
        text += piece;
        this.setState({ text, seen });
      });
      this.setState({ seen: { ...seen, end: performance.now() - began } });
      await this.explain(seen.id);
    } catch (error) {
      if (error.name !== "AbortError") this.setState({ error });
    } finally {
      this.setState({ busy: false });
    }
  };

  async explain(id) {
    const [request, decision] = await Promise.all([get(address(`requests/${id}`)), get(address(`decisions/${id}`))]);
    this.setState({ request, decision: decision.decision });
  }

  render(_, { text, busy, error, seen, request, decision }) {
    const form = ({ models }) => html`<form onSubmit=${this.send} class="panel">
        <div class="row"><label>Model <input name="model" list="models" required defaultValue=${models.data.find((each) => !each.id.includes("*"))?.id || ""} /></label>
          <datalist id="models">${models.data.map((each) => html`<option value=${each.id} />`)}</datalist>
          <label>Most tokens <input name="max_tokens" type="number" min="1" defaultValue="256" /></label></div>
        <p><label>Message <textarea name="prompt" required></textarea></label></p>
        <button class="main" disabled=${busy}>Send</button> ${busy && html`<button type="button" onClick=${() => this.stop.abort()}>Stop</button>`}
      </form>`;
    return html`<${Load} from=${{ models: "/v1/models" }} show=${form} />
      <h2>Answer</h2>
      <div class="panel answer-text" role="log" aria-live="polite" aria-busy=${busy} aria-label="Answer" tabindex="0">${text}</div>
      ${error && html`<p class="error" role="alert">${error.message}</p>`}
      ${seen && html`<p class="quiet">${seen.target || UNKNOWN}: first token after ${ms(seen.first)}, whole after ${ms(seen.end)}, as this browser saw it${request ? `; cost ${usd(request.cost_usd)}` : ""}
        ${" "}<a href=${link("requests", {}, seen.id)}>Its request</a></p>`}
      ${request && html`<h2>Attempts</h2><${Waterfall} attempts=${request.attempts} />`}
      ${decision && html`<h2>Decision</h2><${Decision} decision=${decision} />`}`;
  }
}

// Reads server-sent events to the end. Throws where the stream ends without its last event.
async function events(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("the answer was cut");
    held += value;
    const whole = held.split("\n\n");
    held = whole.pop();
    for (const event of whole) {
      const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("\n");
      if (data === "[DONE]") return;
      if (data) heard(JSON.parse(data));
    }
  }
}
