// The devices of the same broker: requests the list while the page is visible.

import { get } from "./connection.js";
import { tint } from "./emotions.js";
import { duration, fact } from "./health.js";
import { offerLanguages, text } from "./text.js";

const INTERVAL = 2000; // milliseconds between two requests
const FIRST_INTERVAL = 500; // while the daemon connects to the broker

const at = (id) => document.getElementById(id);

let timer = null;
let visits = 0; // how often the page became visible

async function refresh() {
  const visit = visits;
  let list = null;
  try {
    const response = await get("/devices");
    if (response.status === 401) location.reload(); // shows the login page
    if (response.ok) list = await response.json();
  } catch {
    // The daemon does not respond.
  }
  if (document.hidden || visit !== visits) return;
  if (list) show(list);
  else showLost();
  timer = setTimeout(refresh, list?.broker === "connecting" ? FIRST_INTERVAL : INTERVAL);
}

function show(list) {
  enter(list.broker);
  at("broker").textContent = list.address;
  explain(explanations(list));
  const counts = ["running", "stale", "offline"].map((status) =>
    text(`deviceCount.${status}`, { count: list.devices.filter((one) => one.status === status).length }),
  );
  const total = text("deviceCount.all", { count: list.devices.length });
  at("summary").textContent = list.devices.length ? [total, ...counts].join(", ") : "";
  at("devices").replaceChildren(...list.devices.map(card));
  at("no-devices").hidden = list.devices.length > 0;
  at("no-devices").textContent = text(`deviceList.${list.broker}.empty`);
}

/** The daemon does not respond: what the page shows is from before that. */
function showLost() {
  enter("away");
  explain([text("deviceList.away.reason")]);
  at("no-devices").hidden = at("devices").childElementCount > 0;
  at("no-devices").textContent = text("deviceList.away.empty");
}

const STATES = { connected: "running", connecting: "connecting", none: "paused" };

function enter(broker) {
  document.body.dataset.state = STATES[broker] ?? "away";
  const name = text(`deviceList.${broker}.name`);
  if (at("state").textContent !== name) at("state").textContent = name;
}

function explain(sentences) {
  at("explanation").hidden = sentences.length === 0;
  at("explanation").textContent = sentences.join(" ");
}

function explanations({ broker, reason, is_full: isFull, devices }) {
  const sentences = [];
  if (broker === "connected") {
    if (reason) sentences.push(text("deviceList.refused", { reason }));
    else if (devices.length === 1 && devices[0].is_self) sentences.push(text("deviceList.alone"));
  } else {
    sentences.push(text(`deviceList.${broker}.reason`, { reason }));
  }
  if (isFull) sentences.push(text("deviceList.full", { count: devices.length }));
  return sentences.filter(Boolean);
}

function card(device) {
  const element = at("device").content.firstElementChild.cloneNode(true);
  element.dataset.status = device.status;
  element.querySelector(".title").textContent = device.name;
  element.querySelector("small").textContent = device.is_self ? text("thisDevice") : "";
  element.querySelector(".status").textContent = text(`deviceStatus.${device.status}`);
  showMood(element.querySelector(".mood"), device);
  element.querySelector("dl").replaceChildren(...facts(device));
  element.querySelector(".age").textContent =
    device.age_s === null ? text("noMessage") : text("lastMessage", { age: duration(device.age_s) });
  return element;
}

function showMood(line, { emotion, faces, since }) {
  const [mark, word, detail] = line.children;
  const isEmotion = emotion !== null && emotion !== "none" && emotion !== "uncertain";
  tint(mark, isEmotion ? emotion : null);
  if (emotion === null) {
    word.textContent = text("moodUnknown");
    return;
  }
  word.textContent = isEmotion ? text(`emotions.${emotion}`) : text(`mood.${emotion}`);
  const time = new Date(since).toLocaleTimeString(document.documentElement.lang);
  detail.textContent = text("moodDetail", { faces, time });
}

function facts(device) {
  const { fps, latency_ms: latency, temperature_c: temperature, queued_events: queued } = device;
  const rows = [
    ["frameRate", fps, `${fps?.toFixed(1)} ${text("framesPerSecond")}`],
    ["latency95", latency, `${Math.round(latency)} ms`],
    ["temperature", temperature, `${temperature?.toFixed(0)} °C`, device.is_throttled],
    ["queue", queued, queued],
    ["uptime", device.uptime_s, duration(device.uptime_s)],
    ["versionLabel", device.version, device.version],
  ];
  return rows.filter(([, value]) => value !== null).map(([name, , words, isBad]) => fact(name, words, isBad));
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  visits += 1;
  if (!document.hidden) refresh();
});
document.title = `edge-daemon: ${text("devices")}`;
offerLanguages(at("language"));
refresh();
