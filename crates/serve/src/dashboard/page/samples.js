// What the models wrote, side by side at one step: each run's newest samples up to the step that the slider stands at.

import { count, element, name } from "./format.js";

export class Samples {
  constructor(page) {
    this.page = page;
    this.runs = [];
    // The step looked at; null follows the newest.
    this.at = null;
    page.sampleStep.addEventListener("input", () => {
      const i = Number(page.sampleStep.value);
      this.at = i === this.steps.length - 1 ? null : this.steps[i];
      this.draw();
    });
  }

  show(runs) {
    this.runs = runs;
    this.draw();
  }

  draw() {
    const all = this.runs.flatMap(({ metrics }) => (metrics ? metrics.samples.map((sample) => sample.step) : []));
    this.steps = [...new Set(all)].sort((a, b) => a - b);
    const { sampleStep, sampleIs, sampleBar, samples } = this.page;
    sampleBar.hidden = this.steps.length < 2;
    const at = this.at ?? this.steps.at(-1);
    sampleStep.max = Math.max(0, this.steps.length - 1);
    sampleStep.value = this.at === null ? sampleStep.max : this.steps.findLastIndex((step) => step <= at);
    sampleIs.textContent = this.steps.length ? count(at) + (this.at === null ? " (newest)" : "") : "";
    const panels = this.runs.map(({ id, mark, metrics }) => panel(id, mark, metrics, at));
    const shown = panels.filter(Boolean);
    samples.replaceChildren(...(shown.length ? shown : [element("p", "note", "No samples. train.sample_every and train.sample_prompts of the recipe ask for them.")]));
  }
}

function panel(id, mark, metrics, at) {
  const before = metrics ? metrics.samples.filter((sample) => sample.step <= at) : [];
  const step = before.at(-1)?.step;
  if (step === undefined) return null;
  const texts = before.filter((sample) => sample.step === step);
  const made = element("article", "panel", element("h3", "", element("span", "", name(id).short), element("span", "", "step " + count(step))));
  made.style.setProperty("--mark", `var(${mark})`);
  for (const { prompt, text } of texts) made.append(element("p", "sample", element("b", "", prompt), text));
  return made;
}
