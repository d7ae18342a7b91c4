// Who is not known yet: a key, or the provider of single sign-on where there is one.
import { keep, key, state } from "./api.mjs";
import { html } from "./html.mjs";

export function SignIn({ error, done }) {
  const submit = (event) => {
    event.preventDefault();
    keep(event.target.elements.key.value.trim());
    done();
  };
  const begin = () => {
    location.href = `/auth/login?${new URLSearchParams({ return_to: "/dashboard" })}`;
  };
  const wrong = error && (error.status !== 401 || key());
  return html`<main class="sign-in">
    <h1>Turnout</h1>
    ${state.signIn && html`<p><button class="main" onClick=${begin}>Sign in</button></p>`}
    <form onSubmit=${submit}>
      <label for="key">${state.api === "/admin" ? "Admin key" : "Your team's key"}</label>
      <input id="key" name="key" type="password" autocomplete="off" required autofocus />
      <button>Use this key</button>
      ${wrong && html`<p class="error" role="alert">${error.message}</p>`}
    </form>
    <p class="quiet">The key stays in this tab and goes to this gateway alone.</p>
  </main>`;
}
