// How the daemon is: the pipeline from left to right, and some facts below.

const PACE = 1000; // milliseconds between two changes

const stages = document.getElementById("stages");
const facts = document.getElementById("facts");
const BROKER = { connected: "connected", disconnected: "disconnected, retrying", none: "none" };

let shownAt = -Infinity;

export function showHealth(condition, watchers) {
  const now = performance.now();
  if (now - shownAt < PACE) return;
  shownAt = now;
  const { health } = condition;
  stages.replaceChildren(
    stage("capture", health.fps_in.toFixed(1), "frames/s"),
    ...["detection", "inference", "publishing"].map((name) => work(name, condition)),
    stage("results", health.fps_out.toFixed(1), "frames/s", ...lateness(health)),
  );
  facts.replaceChildren(
    ...fact("Models asked", `${health.members_active} of ${health.members_total}`),
    ...fact("Temperature", temperature(health), Boolean(health.throttled?.length)),
    ...fact("Memory", `${Math.round(health.memory_mb)} MB`),
    ...fact("Broker", broker(condition), condition.broker === "disconnected"),
    ...fact("Running for", duration(health.uptime_s)),
    ...fact("Pages open", watchers),
  );
}

function work(name, { stages: times, health }) {
  const dropped = health.dropped[name] ?? 0;
  const time = times[name];
  const [p50, p95] = time ? [time.p50.toFixed(1), time.p95.toFixed(1)] : ["–", "–"];
  return stage(name, p50, "ms", `p95 ${p95} ms`, `${dropped} dropped`);
}

/** One box of the row: a figure, and words that may break between each other only. */
function stage(name, figure, unit, ...more) {
  const element = document.getElementById("stage").content.firstElementChild.cloneNode(true);
  element.querySelector("h3").textContent = name;
  element.querySelector("b").textContent = figure;
  element.querySelector("span").textContent = unit;
  element.querySelector(".more").replaceChildren(...more.map(span));
  return element;
}

function fact(name, value, bad = false) {
  const [term, said] = [document.createElement("dt"), document.createElement("dd")];
  term.textContent = name;
  said.textContent = value;
  said.classList.toggle("bad", bad);
  const pair = document.createElement("div");
  pair.append(term, said);
  return [pair];
}

function span(words) {
  const element = document.createElement("span");
  element.textContent = words;
  return element;
}

/** From capture to result. */
function lateness({ latency_ms: late }) {
  return late ? [`${Math.round(late.p50)} ms late`, `p95 ${Math.round(late.p95)} ms`] : [];
}

function temperature({ cpu_temperature_c: degrees, throttled }) {
  const told = degrees === null ? "not told" : `${degrees.toFixed(1)} °C`;
  return throttled?.length ? `${told}, ${throttled.join(", ").replaceAll("_", " ")}` : told;
}

function broker({ broker: state, health }) {
  const waiting = health.spool.depth;
  return waiting ? `${BROKER[state]}, ${waiting} events wait` : BROKER[state];
}

function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.floor(seconds)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}
