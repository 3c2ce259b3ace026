// The page: the list of runs, the selected runs, and their data from the server.
//
// All data come over one event stream; a new selection opens a new one. After an interruption the browser
// reconnects by itself and gets everything again, so nothing here has to track what was missed. Reading
// order: this file, then curves.js, chart.js.

import { bytes, count, duration, element, labels, loss, name, small } from "./format.js";
import { Curves, Metrics } from "./curves.js";
import { Recipes } from "./recipe.js";
import { Samples } from "./samples.js";

const MOST = 8;
const page = {};
for (const found of document.querySelectorAll("[id]")) page[found.id.replace(/-(\w)/g, (_, letter) => letter.toUpperCase())] = found;

const rows = new Map();
let ids = [];
// Selected ids, with the number of the color that each keeps while it is selected.
const chosen = new Map();
// Until the user selects runs, the newest run is shown, also one that starts later.
let following = true;
const metrics = new Map();
const standings = new Map();
let stream = null;

const curves = new Curves(page);
const samples = new Samples(page);
const recipes = new Recipes(page);

function connect() {
  stream?.close();
  stream = null;
  if (document.hidden) return;
  const query = [...chosen.keys()].map((id) => "run=" + encodeURIComponent(id)).join("&");
  stream = new EventSource("/api/events?" + query);
  stream.onmessage = ({ data }) => hear(JSON.parse(data));
  stream.onopen = () => say("live", "live");
  stream.onerror = ({ target }) => {
    if (target.readyState === EventSource.CLOSED) say("lost", "The dashboard was restarted or has stopped: open the address shown in its terminal");
    else say("lost", "connection lost, reconnecting…");
  };
}

function say(state, words) {
  page.connection.className = state;
  page.connection.textContent = words;
}

function hear(event) {
  switch (event.kind) {
    case "hello":
      page.project.textContent = "\u200e" + event.project;
      document.title = "text2llm · " + event.project.split(/[\\/]/).pop();
      break;
    case "list":
      if (event.ids) ids = event.ids;
      for (const row of event.rows) rows.set(row.run_id, row.state);
      for (const id of rows.keys()) if (!ids.includes(id)) rows.delete(id);
      list();
      break;
    case "machine":
      machine(event.machine);
      break;
    case "standing":
      standings.set(event.run, event.standing);
      draw();
      break;
    case "curves":
      metrics.set(event.run, new Metrics(event));
      draw();
      break;
    case "points":
      metrics.get(event.run)?.add(event);
      draw();
      break;
  }
}

function choose(next) {
  for (const id of chosen.keys()) {
    if (next.includes(id)) continue;
    chosen.delete(id);
    metrics.delete(id);
    standings.delete(id);
  }
  for (const id of next) {
    if (chosen.has(id)) continue;
    const taken = new Set(chosen.values());
    chosen.set(id, [...Array(MOST).keys()].find((number) => !taken.has(number)));
  }
  connect();
  list();
  draw();
}

// The list of runs, newest first. Selected runs that were deleted stay selected, marked as gone, until
// deselected.
function list() {
  if (following) {
    const newest = ids.at(-1);
    if (newest && !(chosen.size === 1 && chosen.has(newest))) return choose([newest]);
  }
  const wanted = page.filter.value.trim().toLowerCase();
  const gone = [...chosen.keys()].filter((id) => !ids.includes(id));
  const shown = [...ids, ...gone].reverse().filter((id) => {
    return chosen.has(id) || !wanted || (id + " " + (rows.get(id)?.status ?? "")).toLowerCase().includes(wanted);
  });
  const items = shown.map(row);
  for (const id of listed.keys()) if (!rows.has(id) && !chosen.has(id)) listed.delete(id);
  if (items.length !== page.runs.children.length || items.some((item, i) => item !== page.runs.children[i])) page.runs.replaceChildren(...items);
  page.empty.hidden = ids.length > 0 || chosen.size > 0;
  page.content.hidden = !page.empty.hidden;
  page.hint.hidden = ids.length < 2;
}

// Items are updated in place: one that is replaced during a click would miss the click.
const listed = new Map();

function row(id) {
  const item = listed.get(id) ?? newItem(id);
  const state = rows.get(id);
  item.box.checked = chosen.has(id);
  item.box.disabled = !item.box.checked && chosen.size >= MOST;
  const status = state?.paused ? "paused" : state?.status ?? (ids.includes(id) ? "unreadable" : "deleted");
  item.pill.className = "pill " + status;
  item.pill.textContent = status;
  const figures = [];
  if (state?.total_steps) figures.push(`${count(state.step)}/${count(state.total_steps)}`);
  if (state?.validation_loss != null) figures.push("validation " + loss(state.validation_loss));
  else if (state?.train_loss != null) figures.push("loss " + loss(state.train_loss));
  if (state?.status === "running" && state.eta_s > 0) figures.push(duration(state.eta_s) + " left");
  item.figures.textContent = figures.join(" · ");
  item.label.style.setProperty("--mark", `var(${chosen.has(id) ? "--run-" + chosen.get(id) : "--accent"})`);
  return item.item;
}

function newItem(id) {
  const [box, pill, figures] = [element("input"), element("span", "pill"), element("span", "figures")];
  box.type = "checkbox";
  box.addEventListener("change", () => {
    following = false;
    choose(box.checked ? [...chosen.keys(), id] : [...chosen.keys()].filter((other) => other !== id));
  });
  const { short, when } = name(id);
  const label = element("label", "", box, element("span", "name", short), pill, element("span", "when", when), figures);
  label.title = id;
  const item = { item: element("li", "", label), label, box, pill, figures };
  listed.set(id, item);
  return item;
}

let drawing = 0;
function draw() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    const names = labels([...chosen.keys()]);
    const runs = [...chosen].map(([id, color], i) => {
      const state = standings.get(id);
      const asOf = state ? [state.status, state.total_steps, state.pid, state.step > 0].join() : null;
      return { id, label: names[i], mark: `--run-${color}`, metrics: metrics.get(id), state, asOf };
    });
    page.cards.replaceChildren(...runs.map(card));
    curves.show(runs);
    samples.show(runs);
    recipes.show(runs);
  });
}

function card({ id, mark, metrics, state }) {
  const { short, when } = name(id);
  const made = element("article", "card");
  made.style.setProperty("--mark", `var(${mark})`);
  made.title = id;
  const heard = standings.has(id);
  const status = state?.paused ? "paused" : state?.status ?? (!heard ? "reading" : ids.includes(id) ? "unreadable" : "deleted");
  const head = element("h3", "", element("span", "", short), element("span", "pill " + status, status));
  made.append(head, element("p", "when", [when && "begun " + when, state?.alive && "process " + state.pid].filter(Boolean).join(" · ")));
  if (!state) {
    if (heard) made.append(element("p", "message", ids.includes(id) ? "Cannot read its state.json." : "Its folder was deleted."));
    return made;
  }
  const bar = element("progress");
  [bar.max, bar.value] = [Math.max(1, state.total_steps), state.step];
  bar.setAttribute("aria-label", `step ${state.step} of ${state.total_steps}`);
  const last = (column) => metrics?.columns[column]?.at(-1);
  const figures = [
    ["step", `${count(state.step)} / ${count(state.total_steps)}`],
    ["epoch", state.epoch.toFixed(2)],
    ["loss", loss(state.train_loss)],
    ["validation", loss(state.validation_loss)],
    ["best", loss(state.best_validation_loss)],
    ["learning rate", small(state.learning_rate)],
    ["tokens/s", state.tokens_per_s ? count(Math.round(state.tokens_per_s)) : "–"],
    ["left", state.status === "running" && state.eta_s > 0 ? duration(state.eta_s) : "–"],
    ["training time", duration(last("elapsed_s"))],
    ["checkpoint", state.checkpoint_step == null ? "–" : "step " + count(state.checkpoint_step)],
    ["device", state.device || "–"],
    ["memory", bytes(last("rss_bytes"))],
  ];
  if (state.resume_count) figures.push(["resumes", state.resume_count]);
  const list = element("dl");
  for (const [what, value] of figures) list.append(element("div", "", element("dt", "", what), element("dd", "", value)));
  made.append(bar, list);
  const bad = state.status === "failed";
  if (state.message) made.append(element("p", bad ? "message bad" : "message", state.message));
  if (state.paused) made.append(element("p", "message bad", state.paused));
  if (state.missing?.length && !state.alive) {
    made.append(element("p", "message", `Trained; ${state.missing.join(" and ")} missing: text2llm resume ${id}`));
  } else if (["interrupted", "stopped"].includes(state.status) && !state.alive) {
    const command = state.checkpoint_step == null ? "run --resume" : `resume ${id}`;
    made.append(element("p", "message", `To continue: text2llm ${command}`));
  }
  if (state.diagnosis && state.diagnosis !== state.message) made.append(element("p", "message bad", state.diagnosis));
  if (state.job && ["pausing", "failed", "given_up"].includes(state.job.status) && state.job.message !== state.message) {
    made.append(element("p", "message", `background job, ${state.job.status.replace("_", " ")}: ${state.job.message}`));
  }
  return made;
}

function machine(now) {
  const words = [now.cpu, now.threads + (now.threads === 1 ? " thread" : " threads")];
  if (now.load != null) words.push("load " + now.load);
  if (now.available_memory_bytes != null) words.push(bytes(now.available_memory_bytes) + " memory free");
  if (now.free_disk_bytes != null) words.push(bytes(now.free_disk_bytes) + " disk free");
  page.machine.textContent = "now: " + words.join(" · ");
}

page.filter.addEventListener("input", list);
// A hidden tab costs nothing; it gets all data when it becomes visible again.
document.addEventListener("visibilitychange", connect);
connect();
