// A chart on two canvases: curves below, crosshair above, so that moving the pointer does not redraw curves.
//
// A series is { name, mark, x, y, faint, dots }: arrays of the same length, x ascending. All charts of the
// page share one view: { logX, logY, zoom: [from, to] or null }.

import { element } from "./format.js";

const LEFT = 54, RIGHT = 8, TOP = 8, BOTTOM = 22;

export class Chart {
  constructor(parent, title, unit, format, events) {
    this.format = format;
    this.events = events;
    this.series = [];
    [this.at, this.pointed] = [null, null];
    this.view = { logX: false, logY: false, zoom: null, formatX: String };
    this.about = element("span", "", unit);
    this.plot = element("div", "plot");
    this.curves = element("canvas");
    this.cross = element("canvas");
    this.tip = element("div", "tip");
    this.tip.hidden = true;
    this.curves.setAttribute("role", "img");
    this.title = title;
    this.plot.append(this.curves, this.cross, this.tip);
    this.element = element("div", "chart", element("h3", "", title, this.about), this.plot);
    parent.append(this.element);
    new ResizeObserver(() => this.redraw()).observe(this.plot);
    this.listen();
  }

  show(series, view) {
    this.series = series;
    this.view = view;
    this.redraw();
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.draw();
    });
  }

  listen() {
    const at = (event) => event.clientX - this.plot.getBoundingClientRect().left;
    let from = null;
    this.plot.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.scale) return;
      from = at(event);
      this.plot.setPointerCapture(event.pointerId);
    });
    this.plot.addEventListener("pointermove", (event) => {
      if (!this.scale) return;
      this.events.hover(this.scale.back(at(event)), this);
      if (from !== null) this.shade(from, at(event));
    });
    const end = (event) => {
      if (from === null || !this.scale) return;
      const [low, high] = [from, at(event)].sort((a, b) => a - b);
      from = null;
      if (event.type === "pointerup" && high - low > 6) {
        this.events.zoom([this.scale.back(Math.max(low, LEFT)), this.scale.back(Math.min(high, this.width - RIGHT))]);
      }
    };
    this.plot.addEventListener("pointerup", end);
    this.plot.addEventListener("pointercancel", end);
    this.plot.addEventListener("pointerleave", () => this.events.hover(null, this));
    this.plot.addEventListener("dblclick", () => this.events.zoom(null));
  }

  // Bounds of the visible range, in values.
  bounds() {
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    const { zoom, logX, logY } = this.view;
    for (const { x, y } of this.series) {
      for (let i = 0; i < x.length; i++) {
        if (zoom && (x[i] < zoom[0] || x[i] > zoom[1])) continue;
        if ((logX && x[i] <= 0) || (logY && y[i] <= 0)) continue;
        if (x[i] < x0) x0 = x[i];
        if (x[i] > x1) x1 = x[i];
        if (y[i] < y0) y0 = y[i];
        if (y[i] > y1) y1 = y[i];
      }
    }
    if (x0 > x1) return null;
    if (zoom) [x0, x1] = [logX ? Math.max(zoom[0], 1e-3) : zoom[0], zoom[1]];
    return { x0, x1: x1 > x0 ? x1 : x0 + 1, y0, y1 };
  }

  draw() {
    const box = this.plot.getBoundingClientRect();
    [this.width, this.height] = [box.width, box.height];
    const pen = fitted(this.curves, box);
    this.scale = null;
    const bounds = this.bounds();
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    pen.font = "11px system-ui, sans-serif";
    if (!bounds) {
      this.hover(null, null);
      pen.fillStyle = color("--faint");
      pen.textAlign = "center";
      pen.fillText("no data yet", box.width / 2, box.height / 2);
      this.curves.setAttribute("aria-label", this.title + ": no data yet");
      return;
    }
    const scale = (this.scale = scaled(bounds, this.view, box));
    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const value of ticks(scale.low, scale.high, this.view.logY, Math.max(2, box.height / 34))) {
      const y = Math.round(scale.y(value)) + 0.5;
      if (y < TOP - 1 || y > box.height - BOTTOM + 1) continue;
      line(pen, color("--grid"), LEFT, y, box.width - RIGHT, y);
      pen.fillStyle = color("--soft");
      pen.fillText(this.format(value), LEFT - 7, y);
    }
    pen.textBaseline = "alphabetic";
    pen.textAlign = "center";
    let free = LEFT - 20;
    for (const value of ticks(bounds.x0, bounds.x1, this.view.logX, Math.max(2, box.width / 95))) {
      const x = Math.round(scale.x(value)) + 0.5;
      const label = this.view.formatX(value);
      const half = pen.measureText(label).width / 2;
      if (x - half < free || x + half > box.width) continue;
      free = x + half + 10;
      line(pen, color("--grid"), x, TOP, x, box.height - BOTTOM);
      pen.fillStyle = color("--soft");
      pen.fillText(label, x, box.height - 6);
    }
    line(pen, color("--line"), LEFT, box.height - BOTTOM + 0.5, box.width - RIGHT, box.height - BOTTOM + 0.5);
    pen.save();
    pen.beginPath();
    // Slightly wider, for the markers of the first and last points.
    pen.rect(LEFT - 4, TOP - 3, box.width - LEFT - RIGHT + 8, box.height - TOP - BOTTOM + 6);
    pen.clip();
    for (const series of this.series) this.trace(pen, series, color(series.mark));
    pen.restore();
    // New points must not remove the tooltip at the pointer.
    this.hover(this.at, this.pointed);
    const told = this.series.filter((one) => !one.faint && one.y.length);
    this.curves.setAttribute("aria-label", this.title + ": " + told.map((one) => `${one.name} ${this.format(one.y.at(-1))}`).join(", "));
  }

  trace(pen, { x, y, faint, dots }, color) {
    const { scale, view } = this;
    pen.strokeStyle = pen.fillStyle = color;
    pen.globalAlpha = faint ? 0.26 : 1;
    pen.lineWidth = faint ? 1 : 1.8;
    pen.lineJoin = "round";
    pen.setLineDash(dots ? [5, 4] : []);
    pen.beginPath();
    let begun = false;
    for (let i = 0; i < x.length; i++) {
      if ((view.logX && x[i] <= 0) || (view.logY && y[i] <= 0)) continue;
      const [a, b] = [scale.x(x[i]), scale.y(y[i])];
      begun ? pen.lineTo(a, b) : pen.moveTo(a, b);
      begun = true;
    }
    pen.stroke();
    pen.setLineDash([]);
    if (dots || x.length === 1) {
      for (let i = 0; i < x.length && x.length <= 200; i++) {
        pen.beginPath();
        pen.arc(scale.x(x[i]), scale.y(y[i]), 2.6, 0, 7);
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
  }

  // The crosshair at x, in values; the tooltip is only shown in the chart that has the pointer.
  hover(x, pointed) {
    [this.at, this.pointed] = [x, pointed];
    const pen = fitted(this.cross, { width: this.width, height: this.height });
    this.tip.hidden = true;
    if (x === null || !this.scale) return;
    const style = getComputedStyle(document.documentElement);
    const at = this.scale.x(x);
    if (at < LEFT - 1 || at > this.width - RIGHT + 1) return;
    line(pen, style.getPropertyValue("--faint"), at, TOP, at, this.height - BOTTOM);
    const rows = [];
    for (const series of this.series) {
      if (series.faint) continue;
      const i = nearest(series.x, x);
      // A run that ended before or started later has no value here.
      const outside = i >= 0 && (x < series.x[0] || x > series.x.at(-1));
      if (i < 0 || (outside && Math.abs(this.scale.x(series.x[i]) - at) > 8)) continue;
      pen.fillStyle = style.getPropertyValue(series.mark);
      pen.beginPath();
      pen.arc(this.scale.x(series.x[i]), this.scale.y(series.y[i]), 3.6, 0, 7);
      pen.fill();
      const swatch = element("span", "swatch");
      swatch.style.background = `var(${series.mark})`;
      rows.push(element("div", "", swatch, element("span", "", series.name), element("b", "", this.format(series.y[i]))));
    }
    if (pointed !== this || !rows.length) return;
    this.tip.replaceChildren(element("div", "", element("b", "", this.view.nameX + " " + this.view.formatX(x))), ...rows);
    this.tip.hidden = false;
    const right = at < this.width / 2;
    this.tip.style.left = right ? at + 14 + "px" : "auto";
    this.tip.style.right = right ? "auto" : this.width - at + 14 + "px";
    this.tip.style.top = TOP + "px";
  }

  shade(from, to) {
    const pen = this.cross.getContext("2d");
    pen.globalAlpha = 0.16;
    pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
    pen.fillRect(from, TOP, to - from, this.height - TOP - BOTTOM);
    pen.globalAlpha = 1;
  }
}

function fitted(canvas, { width, height }) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return pen;
}

function line(pen, color, x0, y0, x1, y1) {
  pen.strokeStyle = color;
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

function scaled({ x0, x1, y0, y1 }, { logX, logY }, { width, height }) {
  const to = (log) => (log ? Math.log10 : (value) => value);
  const [tx, ty] = [to(logX), to(logY)];
  const [left, right] = [tx(x0), tx(x1)];
  let [bottom, top] = [ty(y0), ty(y1)];
  const margin = (top - bottom) * 0.05 || (logY ? 0.05 : Math.abs(top) * 0.05 || 1);
  [bottom, top] = [bottom - margin, top + margin];
  const [w, h] = [width - LEFT - RIGHT, height - TOP - BOTTOM];
  const from = (log, value) => (log ? 10 ** value : value);
  return {
    low: from(logY, bottom),
    high: from(logY, top),
    x: (value) => LEFT + ((tx(value) - left) / (right - left)) * w,
    y: (value) => TOP + (1 - (ty(value) - bottom) / (top - bottom)) * h,
    back: (pixel) => from(logX, left + ((pixel - LEFT) / w) * (right - left)),
  };
}

// About `most` round values from low to high. A logarithmic axis over decades gets 1, 2, 5; over less, it
// gets the ticks of a linear axis.
export function ticks(low, high, log, most) {
  if (log && low > 0 && high / low >= 8) {
    const decades = Math.log10(high / low);
    const steps = decades * 3 <= most * 1.5 ? [1, 2, 5] : [1];
    const every = Math.max(1, Math.ceil(decades / most));
    const marks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      if (steps.length === 1 && power % every) continue;
      for (const step of steps) {
        const value = step * 10 ** power;
        if (value >= low && value <= high) marks.push(value);
      }
    }
    return marks;
  }
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((digit) => digit * power).find((size) => size >= rough);
  const marks = [];
  if (!(step > 0)) return [low];
  for (let i = Math.ceil(low / step); i * step <= high; i++) marks.push(Number((i * step).toPrecision(12)));
  return marks;
}

// Index of the value nearest to x in an ascending array; -1 in an empty one.
export function nearest(values, x) {
  let [low, high] = [0, values.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - values[low - 1] < values[low] - x ? low - 1 : values.length ? low : -1;
}
