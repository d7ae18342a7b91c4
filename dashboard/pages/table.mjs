// A table of which only the rows in sight are in the document, however many there are.
import { Component, html } from "./html.mjs";

const ROW = 30;
const BEYOND = 10; // rows above and below those in sight

// `columns`: {name, of(row), right}; `onEnd`: the last rows are near.
export class Table extends Component {
  state = { top: 0 };
  scrolled = (event) => {
    this.setState({ top: event.currentTarget.scrollTop });
    if (this.props.onEnd && event.currentTarget.scrollTop / ROW + 60 > this.props.rows.length) this.props.onEnd();
  };

  render({ columns, rows, label, empty, height = 12 }, { top }) {
    if (!rows.length) return html`<p class="quiet">${empty || "Nothing in this time."}</p>`;
    const inSight = Math.max(height, 30);
    const first = Math.max(0, Math.min(Math.floor(top / ROW), rows.length - inSight) - BEYOND);
    const last = Math.min(rows.length, first + inSight + 2 * BEYOND);
    return html`<div class="scroll" style=${{ maxHeight: `${height * ROW + 34}px` }} tabindex="0" role="region" aria-label=${label} onScroll=${this.scrolled}>
      <table aria-rowcount=${rows.length + 1}>
        <thead><tr aria-rowindex="1">${columns.map((c) => html`<th scope="col" class=${c.right ? "right" : ""}>${c.name}</th>`)}</tr></thead>
        <tbody>
          ${first > 0 && html`<tr class="gap" style=${{ height: `${first * ROW}px` }}></tr>`}
          ${rows.slice(first, last).map(
            (row, i) => html`<tr key=${first + i} aria-rowindex=${first + i + 2}>${columns.map((c) => html`<td class=${c.right ? "right" : ""}>${c.of(row)}</td>`)}</tr>`,
          )}
          ${last < rows.length && html`<tr class="gap" style=${{ height: `${(rows.length - last) * ROW}px` }}></tr>`}
        </tbody>
      </table>
    </div>`;
  }
}
