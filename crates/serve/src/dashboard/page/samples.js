// Samples of the models, side by side: each run's newest samples up to the step of the slider.

import { count, element } from "./format.js";

export class Samples {
  constructor(page) {
    this.page = page;
    this.runs = [];
    // The selected step; null follows the newest.
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
    const texts = this.runs.map((run) => upTo(run, at)).filter(Boolean);
    // Unchanged samples are kept: the user may be reading or selecting text.
    const shown = JSON.stringify(texts);
    if (shown === this.shown) return;
    this.shown = shown;
    const none = element("p", "note", "No samples. Set train.sample_every and train.sample_prompts in the recipe to get some.");
    samples.replaceChildren(...(texts.length ? texts.map(panel) : [none]));
  }
}

// A run's newest samples up to a step.
function upTo({ label, mark, metrics }, at) {
  const before = metrics ? metrics.samples.filter((sample) => sample.step <= at) : [];
  const step = before.at(-1)?.step;
  return step === undefined ? null : { label, mark, step, samples: before.filter((sample) => sample.step === step) };
}

function panel({ label, mark, step, samples }) {
  const made = element("article", "panel", element("h3", "", element("span", "", label), element("span", "", "step " + count(step))));
  made.style.setProperty("--mark", `var(${mark})`);
  for (const { prompt, text } of samples) made.append(element("p", "sample", element("b", "", prompt), text));
  return made;
}
