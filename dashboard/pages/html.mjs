// Preact with htm's templates.
import { Component, createRef, h, render } from "/dashboard/npm/preact.mjs";
import htm from "/dashboard/npm/htm.mjs";

export const html = htm.bind(h);
export { Component, createRef, render };
