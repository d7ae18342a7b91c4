// Light or dark: what the system says, until somebody chooses.
const NAME = "turnout-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

export const dark = () => (localStorage.getItem(NAME) || (system.matches ? "dark" : "light")) === "dark";

export function apply() {
  document.documentElement.dataset.theme = dark() ? "dark" : "light";
  dispatchEvent(new Event("themechange"));
}

export function toggle() {
  localStorage.setItem(NAME, dark() ? "light" : "dark");
  apply();
}

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
system.addEventListener("change", apply);
