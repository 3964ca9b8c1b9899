// Keeps the page true without loading it anew: asks the daemon for the same page, and moves what is
// new from there to its place here. Text stays text all the way; nothing is put together from strings.
"use strict";

const REFRESH_MS = 2000;
// After an event: soon, but one refresh for many events.
const SOON_MS = 150;
const ANSWER_LIMIT_MS = 5000;
// Latencies that are drawn for each path.
const KEPT = 60;
const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);
const seen = new Map();
let timer;
let isAsking = false;
let isAskedAgain = false;

/** Has the page refreshed after so many milliseconds, or sooner if it is due sooner. */
function refreshIn(ms) {
  const due = performance.now() + ms;
  if (timer && timer.due <= due) return;
  if (timer) clearTimeout(timer.id);
  timer = { due, id: setTimeout(refresh, ms) };
}

async function refresh() {
  timer = undefined;
  if (isAsking) {
    isAskedAgain = true;
    return;
  }
  isAsking = true;
  const begin = performance.now();
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_LIMIT_MS) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    show(fresh);
    isAlive(true);
  } catch {
    isAlive(false);
  }
  isAsking = false;
  // What takes long is not asked for all the time.
  refreshIn(isAskedAgain ? SOON_MS : Math.max(REFRESH_MS, 10 * (performance.now() - begin)));
  isAskedAgain = false;
}

let lastAnswer = new Date();

function isAlive(alive) {
  document.body.classList.toggle("live", alive);
  document.body.classList.toggle("stale", !alive);
  if (alive) lastAnswer = new Date();
  const text = alive ? "live" : `no answer from the daemon; this is of ${lastAnswer.toLocaleTimeString()}`;
  if (byId("liveness").textContent !== text) byId("liveness").textContent = text;
}

function show(fresh) {
  document.title = fresh.title;
  for (const id of ["verdict", "counts", "rest", "events", "daemon"]) {
    patch(byId(id), fresh.getElementById(id));
  }
  showTable(fresh.getElementById("paths"));
}

/** Keeps the element, so that a screen reader that listens to it hears of the change. */
function replace(element, next) {
  element.className = next.className;
  element.replaceChildren(...next.childNodes);
}

function showTable(next) {
  const table = byId("paths");
  const old = new Map(Array.from(table.tBodies, (body) => [body.dataset.key, body]));
  const rows = new Map(Array.from(table.querySelectorAll("tr[data-key]"), (row) => [row.dataset.key, row]));
  const shown = new Set(Array.from(next.querySelectorAll("tr[data-key]"), (row) => row.dataset.key));
  for (const key of seen.keys()) if (!shown.has(key)) seen.delete(key);
  const bodies = Array.from(next.tBodies, (body) => {
    const kept = old.get(body.dataset.key) ?? body.cloneNode();
    const title = kept.querySelector(".group");
    order(kept, Array.from(body.rows, (row) => (row.matches(".group") ? patch(title, row) : merge(rows.get(row.dataset.key), row))));
    return kept;
  });
  order(table, [table.caption, table.tHead, ...bodies]);
}

/** The element that is there, with what is new in it; or the new one, if none is there. */
function patch(element, next) {
  if (!element) return next;
  if (!element.isEqualNode(next)) replace(element, next);
  return element;
}

/** Touches nothing that is in its place already: focus and selections stay. */
function order(parent, children) {
  const is = parent.children;
  if (is.length === children.length && children.every((child, i) => is[i] === child)) return;
  parent.replaceChildren(...children);
}

/** Moves what is new into the row that is there, if one is. */
function merge(row, next) {
  remember(next.dataset);
  if (row === undefined) {
    row = next;
  } else {
    const hasChanged = row.dataset.state !== next.dataset.state;
    if (hasChanged) row.classList.remove("changed");
    for (const cell of Array.from(next.cells)) {
      if (!cell.matches(".spark")) patch(row.cells[cell.cellIndex], cell);
    }
    Object.assign(row.dataset, next.dataset);
    if (hasChanged) requestAnimationFrame(() => row.classList.add("changed"));
  }
  drawGraph(row);
  return row;
}

function drawGraph(row) {
  row.querySelector(".spark").replaceChildren(sparkline(seen.get(row.dataset.key)));
}

/** Keeps what a path has answered since, and that it has not, if it did not always. */
function remember({ key, state, total, answered, us }) {
  const latencies = us === undefined ? [] : us.split(" ").map(Number);
  const history = seen.get(key);
  if (history === undefined) {
    // The daemon remembers answers only; of a path that is down the last one is missing.
    const values = state === "down" ? [...latencies, null] : latencies;
    seen.set(key, { total, answered, values: values.slice(-KEPT) });
    return;
  }
  const good = answered - history.answered;
  const bad = total - history.total - good;
  const values = [];
  if (good > 0) values.push(...latencies.slice(-good));
  if (bad > 0) values.push(null);
  // What is not down any more answered last.
  if (state !== "down") values.reverse();
  seen.set(key, { total, answered, values: [...history.values, ...values].slice(-KEPT) });
}

/** A line through the latencies, from nothing to the largest; a red stroke where there was no answer. */
function sparkline({ values }) {
  const svg = document.createElementNS(SVG, "svg");
  const largest = Math.max(1, ...values.filter((us) => us !== null));
  svg.setAttribute("viewBox", `0 0 ${KEPT - 1} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const draw = (name, attributes) => {
    const shape = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    svg.append(shape);
  };
  let points = [];
  const endLine = () => {
    if (points.length === 1) points.push(points[0].replace(/^[^,]+/, (x) => Number(x) + 0.5));
    if (points.length > 0) {
      draw("polyline", { points: points.join(" "), fill: "none", stroke: "currentColor", "stroke-width": 1.5, "vector-effect": "non-scaling-stroke" });
    }
    points = [];
  };
  values.forEach((us, i) => {
    const x = KEPT - values.length + i;
    if (us === null) {
      endLine();
      draw("path", { d: `M${x} 5v10`, class: "bad", "vector-effect": "non-scaling-stroke" });
    } else {
      points.push(`${x},${(19 - 17 * (us / largest)).toFixed(1)}`);
    }
  });
  endLine();
  return svg;
}

function follow() {
  const events = new EventSource("v1/events?follow=true");
  const soon = () => refreshIn(SOON_MS);
  for (const name of ["open", "message", "lost", "error"]) events.addEventListener(name, soon);
}

function filterAsTyped() {
  const form = byId("search");
  const apply = () => {
    const query = new URLSearchParams(new FormData(form));
    history.replaceState(null, "", query.get("q") ? `?${query}` : location.pathname);
    refreshIn(SOON_MS);
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
}

document.body.classList.add("scripted");
for (const row of byId("paths").querySelectorAll("tr[data-key]")) {
  remember(row.dataset);
  drawGraph(row);
}
filterAsTyped();
follow();
refreshIn(0);
