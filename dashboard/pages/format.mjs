// Numbers, money and times as they are read. What is not known is "–", never 0.
export const UNKNOWN = "–";

const known = (form) => (value) => (value === null || value === undefined || value === "" || Number.isNaN(Number(value)) ? UNKNOWN : form(Number(value)));
const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

export const count = known((n) => (Math.abs(n) < 100_000 ? grouped.format(n) : compact.format(n)));
export const decimal = known((n) => (Math.abs(n) >= 100 ? grouped.format(n) : String(Number(n.toPrecision(3)))));
export const percent = known((n) => `${(n * 100).toFixed(n && Math.abs(n) < 0.1 ? 1 : 0)}%`);
export const usd = known((n) => (n === 0 ? "$0" : Math.abs(n) >= 1 ? `$${n.toFixed(2)}` : `$${Number(n.toPrecision(3))}`));
export const ms = known((n) => (n >= 10_000 ? `${(n / 1000).toFixed(1)} s` : n >= 10 ? `${Math.round(n)} ms` : `${n.toFixed(1)} ms`));
export const span = known((s) => (s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : s < 172_800 ? `${(s / 3600).toFixed(1)} h` : `${(s / 86_400).toFixed(1)} days`));
export const change = known((n) => `${n > 0 ? "+" : n < 0 ? "−" : ""}${(Math.abs(n) * 100).toFixed(1)}%`);

export function moment(text) {
  return text ? new Date(text).toISOString().replace("T", " ").slice(0, 19) : UNKNOWN;
}

export const sum = (rows, name) => {
  const found = rows.map((row) => row[name]).filter((value) => value !== null && value !== undefined);
  return found.length ? found.reduce((total, value) => total + Number(value), 0) : null;
};
