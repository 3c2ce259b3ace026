// Recipes and machines of the chosen runs, as tables: a row a key, a column a run, what differs marked.

import { element } from "./format.js";

export class Recipes {
  constructor(page) {
    this.page = page;
    this.runs = [];
    // By id: what the server told, and for which state of the run it was asked.
    this.known = new Map();
    page.allKeys.addEventListener("change", () => this.draw());
  }

  // `asOf` changes when what a run was asked to do may have changed.
  show(runs) {
    this.runs = runs;
    for (const { id, asOf } of runs) {
      if (asOf !== null && this.known.get(id)?.asOf !== asOf) this.ask(id, asOf);
    }
    for (const id of this.known.keys()) if (!runs.some((run) => run.id === id)) this.known.delete(id);
    this.draw();
  }

  async ask(id, asOf) {
    this.known.set(id, { asOf, meta: this.known.get(id)?.meta ?? null });
    try {
      const answer = await fetch(`/api/runs/${encodeURIComponent(id)}/meta`);
      if (!answer.ok) return;
      const meta = await answer.json();
      if (this.known.has(id)) this.known.set(id, { asOf, meta });
      this.draw();
    } catch {
      // The connection is gone, which the page tells; the next one asks again.
      this.known.delete(id);
    }
  }

  draw() {
    // A run of which nothing is recorded would differ in every key.
    const told = this.runs.map(({ id, label, mark }) => ({ label, mark, meta: this.known.get(id)?.meta })).filter(({ meta }) => meta);
    // What is the same stays: somebody may have scrolled, or be selecting.
    const shown = JSON.stringify([told, this.page.allKeys.checked]);
    if (shown === this.shown) return;
    this.shown = shown;
    const several = told.length > 1;
    this.page.allKeys.parentElement.hidden = !several;
    const part = (choose) => told.map(({ meta }) => flat(choose(meta)));
    const recipe = part(({ recipe, model, parameters, recipe_source, inputs }) => ({ parameters, recipe_source, ...recipe, "model (settled)": model, inputs }));
    const only = several && !this.page.allKeys.checked;
    this.page.recipe.replaceChildren(table(told, recipe, only, several ? "These runs were asked for the same." : "Nothing is recorded yet."));
    const machine = part(({ environment }) => environment);
    this.page.environment.replaceChildren(table(told, machine, false, "Nothing is recorded yet."));
  }
}

function table(told, columns, onlyDifferent, nothing) {
  const keys = [...new Set(columns.flatMap((column) => [...column.keys()]))];
  const body = element("tbody");
  for (const key of keys) {
    const values = columns.map((column) => column.get(key) ?? "–");
    const differ = new Set(values).size > 1;
    if (onlyDifferent && !differ) continue;
    const cells = values.map((value) => element("td", differ && value !== values[0] ? "changed" : "", value));
    const head = element("th", "", key);
    head.scope = "row";
    body.append(element("tr", "", head, ...cells));
  }
  if (!body.rows.length) return element("p", "note", nothing);
  const heads = told.map(({ label, mark }) => {
    const swatch = element("span", "swatch");
    swatch.style.cssText = `display:inline-block;margin-right:6px;background:var(${mark})`;
    return element("th", "", swatch, label);
  });
  return element("div", "scroll", element("table", "", element("thead", "", element("tr", "", element("th", "", ""), ...heads)), body));
}

// Nested objects as rows of dotted keys; what is null is not there.
export function flat(value, prefix = "", into = new Map()) {
  for (const [key, inner] of Object.entries(value ?? {})) {
    if (inner === null || inner === undefined) continue;
    if (typeof inner === "object" && !Array.isArray(inner)) flat(inner, prefix + key + ".", into);
    else into.set(prefix + key, typeof inner === "string" && /^[^\s\x00-\x1f][^\x00-\x1f]*$/.test(inner) ? inner : JSON.stringify(inner));
  }
  return into;
}
