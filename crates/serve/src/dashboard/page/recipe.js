// Recipes and machines of the selected runs, as tables: one row per key, one column per run, differences
// marked.

import { element } from "./format.js";

export class Recipes {
  constructor(page) {
    this.page = page;
    this.runs = [];
    // By id: the server's response, and the state of the run it belongs to.
    this.known = new Map();
    page.allKeys.addEventListener("change", () => this.draw());
  }

  // `asOf` changes when the recipe of a run may have changed.
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
      // The connection is lost, which the page shows; the next one requests it again.
      this.known.delete(id);
    }
  }

  draw() {
    // A run without records would differ in every key.
    const told = this.runs.map(({ id, label, mark }) => ({ label, mark, meta: this.known.get(id)?.meta })).filter(({ meta }) => meta);
    // An unchanged table is kept: the user may have scrolled or be selecting text.
    const shown = JSON.stringify([told, this.page.allKeys.checked]);
    if (shown === this.shown) return;
    this.shown = shown;
    const several = told.length > 1;
    this.page.allKeys.parentElement.hidden = !several;
    const part = (choose) => told.map(({ meta }) => flat(choose(meta)));
    const recipe = part(({ recipe, model, parameters, recipe_source, inputs }) => ({ parameters, recipe_source, ...recipe, "model (settled)": model, inputs }));
    const only = several && !this.page.allKeys.checked;
    this.page.recipe.replaceChildren(table(told, recipe, only, several ? "The recipes of these runs are equal." : "Nothing recorded yet."));
    const machine = part(({ environment }) => environment);
    this.page.environment.replaceChildren(table(told, machine, false, "Nothing recorded yet."));
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

// Nested objects as rows of dotted keys; null values are omitted.
export function flat(value, prefix = "", into = new Map()) {
  for (const [key, inner] of Object.entries(value ?? {})) {
    if (inner === null || inner === undefined) continue;
    if (typeof inner === "object" && !Array.isArray(inner)) flat(inner, prefix + key + ".", into);
    else into.set(prefix + key, typeof inner === "string" && /^[^\s\x00-\x1f][^\x00-\x1f]*$/.test(inner) ? inner : JSON.stringify(inner));
  }
  return into;
}
