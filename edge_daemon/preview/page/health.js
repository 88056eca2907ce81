// The daemon's figures: the pipeline from left to right, and some facts below.

import { text } from "./text.js";

const INTERVAL = 1000; // milliseconds between two changes

const stages = document.getElementById("stages");
const facts = document.getElementById("facts");

let shownAt = -Infinity;

export function showHealth(condition, viewers) {
  const now = performance.now();
  if (now - shownAt < INTERVAL) return;
  shownAt = now;
  const { health } = condition;
  stages.replaceChildren(
    stage("capture", health.fps_in.toFixed(1), text("framesPerSecond")),
    ...["detection", "inference", "publishing"].map((name) => work(name, condition)),
    stage("results", health.fps_out.toFixed(1), text("framesPerSecond"), ...latency(health)),
  );
  const models = { active: health.members_active, total: health.members_total };
  const memory = health.memory_mb === null ? text("unknown") : `${Math.round(health.memory_mb)} MB`;
  facts.replaceChildren(
    fact("modelsUsed", text("ofModels", models)),
    fact("temperature", temperature(health), Boolean(health.throttled?.length)),
    fact("memory", memory),
    fact("broker", broker(condition), condition.broker === "disconnected"),
    fact("uptime", duration(health.uptime_s)),
    fact("viewers", viewers),
  );
}

/** A duration in words. */
export function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.round(seconds)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return text("days", { count: Math.floor(hours / 24) });
}

function work(name, { stages: times, health }) {
  const count = health.dropped[name] ?? 0;
  const time = times[name];
  const [p50, p95] = time ? [time.p50.toFixed(1), time.p95.toFixed(1)] : ["–", "–"];
  return stage(name, p50, "ms", `p95 ${p95} ms`, text("dropped", { count }));
}

/** One box of the row: a figure, and lines below it. */
function stage(name, figure, unit, ...lines) {
  const element = document.getElementById("stage").content.firstElementChild.cloneNode(true);
  element.querySelector("h3").textContent = text(`stages.${name}`);
  element.querySelector("b").textContent = figure;
  element.querySelector("span").textContent = unit;
  element.querySelector(".more").replaceChildren(...lines.map(span));
  return element;
}

/** A pair of a term and its value. */
export function fact(name, value, isBad = false) {
  const pair = document.createElement("div");
  const [term, description] = ["dt", "dd"].map((tag) => document.createElement(tag));
  term.textContent = text(name);
  description.textContent = value;
  description.classList.toggle("bad", isBad);
  pair.append(term, description);
  return pair;
}

function span(words) {
  const element = document.createElement("span");
  element.textContent = words;
  return element;
}

function latency({ latency_ms: times }) {
  if (!times) return [];
  return [text("latency", { ms: Math.round(times.p50) }), `p95 ${Math.round(times.p95)} ms`];
}

function temperature({ cpu_temperature_c: degrees, throttled }) {
  const value = degrees === null ? text("unknown") : `${degrees.toFixed(1)} °C`;
  return throttled?.length ? `${value}, ${throttled.join(", ").replaceAll("_", " ")}` : value;
}

function broker({ broker: state, health }) {
  const name = text(`brokerState.${state}`);
  const count = health.event_queue.depth;
  return count ? `${name}, ${text("queuedEvents", { count })}` : name;
}
