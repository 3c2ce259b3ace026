// The charts: their series from the selected runs, and the controls above them.

import { Chart } from "./chart.js";
import { bytes, count, duration, small } from "./format.js";

const CHARTS = [
  { column: "loss", title: "Training loss", unit: "nats per token", format: small },
  { column: "validation", title: "Validation loss", unit: "nats per token", format: small, dots: true },
  { column: "learning_rate", title: "Learning rate", unit: "", format: small, plain: true },
  { column: "gradient_norm", title: "Gradient norm", unit: "before clipping", format: small },
  { column: "tokens_per_s", title: "Speed", unit: "tokens/s", format: count, linear: true },
  { column: "rss_bytes", title: "Resident memory", unit: "", format: bytes, linear: true, plain: true },
];

export class Curves {
  constructor(page) {
    this.view = { axis: "step", logX: false, logY: true, smoothing: 0.9, zoom: null };
    this.page = page;
    const events = {
      hover: (x, pointed) => this.charts.forEach((chart) => chart.hover(x, pointed)),
      zoom: (range) => this.zoom(range),
    };
    this.charts = CHARTS.map(({ title, unit, format }) => new Chart(page.charts, title, unit, format, events));
    this.runs = [];
    this.controls();
  }

  controls() {
    const { axis, logX, logY, smoothing, smoothingIs, whole } = this.page;
    const said = () => (smoothingIs.textContent = Math.round(100 * this.view.smoothing) + " %");
    [axis.value, logX.checked, logY.checked, smoothing.value] = [this.view.axis, this.view.logX, this.view.logY, this.view.smoothing];
    said();
    axis.addEventListener("change", () => {
      this.view.axis = axis.value;
      this.zoom(null);
    });
    logX.addEventListener("change", () => this.set("logX", logX.checked));
    logY.addEventListener("change", () => this.set("logY", logY.checked));
    smoothing.addEventListener("input", () => {
      this.set("smoothing", Number(smoothing.value));
      said();
    });
    whole.addEventListener("click", () => this.zoom(null));
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.zoom(null));
    // Colors are read when drawing.
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  set(key, value) {
    this.view[key] = value;
    this.draw();
  }

  zoom(range) {
    this.page.whole.disabled = range === null;
    this.set("zoom", range);
  }

  // Runs as { label, mark, metrics }, where metrics may not have arrived yet.
  show(runs) {
    this.runs = runs;
    this.draw();
  }

  draw() {
    const { axis, logX, logY, smoothing, zoom } = this.view;
    CHARTS.forEach((kind, i) => {
      const series = [];
      for (const { label, mark, metrics } of this.runs) {
        if (!metrics) continue;
        const { x, y } = kind.column === "validation" ? metrics.validation(axis) : { x: metrics.columns[axis], y: metrics.columns[kind.column] };
        const smooth = smoothing > 0 && !kind.dots && !kind.plain && x.length > 2;
        if (smooth) series.push({ name: label, mark, x, y, faint: true });
        series.push({ name: label, mark, x, y: smooth ? smoothed(y, smoothing) : y, dots: kind.dots });
      }
      this.charts[i].show(series, {
        logX,
        logY: logY && !kind.linear,
        zoom,
        nameX: axis === "step" ? "step" : "after",
        formatX: axis === "step" ? (value) => count(Math.round(value)) : duration,
      });
    });
  }
}

// Exponential moving average with Adam's bias correction.
export function smoothed(values, share) {
  let [sum, weight] = [0, 0];
  return values.map((value) => {
    sum = share * sum + (1 - share) * value;
    weight = share * weight + (1 - share);
    return sum / weight;
  });
}

// A run's metrics as columns.
export class Metrics {
  constructor({ columns, steps, validations, samples }) {
    this.columns = {};
    columns.forEach((column, i) => (this.columns[column] = steps.map((point) => point[i])));
    this.names = columns;
    this.validations = validations;
    this.samples = samples;
  }

  add({ steps, validations, samples }) {
    for (const point of steps) this.names.forEach((column, i) => this.columns[column].push(point[i]));
    this.validations.push(...validations);
    this.samples.push(...samples);
  }

  validation(axis) {
    const y = this.validations.map((point) => point[1]);
    const steps = this.validations.map((point) => point[0]);
    if (axis === "step") return { x: steps, y };
    // The time of the step that it followed.
    const { step, elapsed_s } = this.columns;
    let i = 0;
    const x = steps.map((at) => {
      while (i + 1 < step.length && step[i + 1] <= at) i++;
      return elapsed_s[i] ?? 0;
    });
    return { x, y };
  }
}
