// Where somebody is: the page, the thing on it, and the filters, all of them in the address after `#`. Never a key.
export function here() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, ...rest] = path.split("/").map(decodeURIComponent);
  return { page: page || "overview", thing: rest.join("/") || null, query: Object.fromEntries(new URLSearchParams(query)) };
}

const KEPT = ["since", "team"]; // go along from page to page

export function link(page, query = {}, thing = null) {
  const now = here().query;
  const all = { ...Object.fromEntries(KEPT.filter((name) => now[name]).map((name) => [name, now[name]])), ...query };
  const text = new URLSearchParams(Object.entries(all).filter(([, value]) => value)).toString();
  return `#/${page}${thing ? `/${encodeURIComponent(thing)}` : ""}${text ? `?${text}` : ""}`;
}

export function set(query) {
  const now = here();
  location.hash = link(now.page, { ...now.query, ...query }, now.thing);
}
