// The gateway's JSON. A key is kept in this tab's session storage; a session is a cookie that no script can read.
const KEY = "turnout-key";
export const state = { api: "/v1", signIn: false, session: null };

export const key = () => sessionStorage.getItem(KEY);
export const keep = (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY));

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function headers() {
  return key() ? { authorization: `Bearer ${key()}` } : {};
}

export async function ask(url, options = {}) {
  const answer = await fetch(url, { ...options, headers: { ...headers(), ...options.headers } });
  if (!answer.ok) throw new Refused(answer.status, (await told(answer)) || `the gateway answered ${answer.status}`);
  return answer;
}

async function told(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return null;
  }
}

// `path` below the API of this port; a parameter without a value is left out, but a list of no groups is said: it means one line of all.
export function address(path, params = {}) {
  const given = Object.entries(params)
    .map(([name, value]) => [name, Array.isArray(value) ? value.join(",") : value === "" ? null : value])
    .filter(([, value]) => value !== null && value !== undefined);
  return `${state.api}/${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
}

export const get = async (url) => (await ask(url)).json();

// Sends a write, with the token that a browser's session needs; what came of it.
export async function send(url, body) {
  const by = state.session?.via === "session" ? { "x-turnout-csrf": state.session.csrf_token } : {};
  const options = { method: "POST", headers: { ...by, ...(body === undefined ? {} : { "content-type": "application/json" }) } };
  return (await ask(url, body === undefined ? options : { ...options, body: JSON.stringify(body) })).json();
}

export async function about() {
  const found = await (await fetch("/dashboard/about.json")).json();
  state.api = found.api;
  state.signIn = found.sign_in;
}

export async function whoAmI() {
  state.session = await get(state.api === "/admin" ? "/auth/session" : "/v1/session");
}

export async function leave() {
  const csrf = state.session?.csrf_token;
  const by = state.session?.via;
  keep(null);
  state.session = null;
  if (by !== "session") return null;
  return (await (await ask("/auth/logout", { method: "POST", headers: { "x-turnout-csrf": csrf } })).json()).continue_at;
}
