// Joins the page's parts.

import { connect, get } from "./connection.js";
import { showFaces } from "./faces.js";
import { showHealth } from "./health.js";
import { acceptPhotos } from "./photo.js";
import { clearPicture, mirror, showPicture } from "./picture.js";
import { showSession } from "./session.js";
import { offerLanguages, text, textList } from "./text.js";
import * as timeline from "./timeline.js";
import { clearZones, drawZones, handleZoneKey, showZones } from "./zones.js";

const READING_INTERVAL = 250; // milliseconds between two changes of words, numbers and bars

const at = (id) => document.getElementById(id);

const view = { raw: false, crops: false, zones: false, isRead: true };
let session = null;
let paused = false;
let readAt = -Infinity;

async function begin(newSession) {
  session = newSession;
  at("device").textContent = session.device;
  at("source").textContent = session.source;
  at("version").textContent = session.version;
  document.title = `${session.device}: edge-daemon preview`;
  showZones(session.zones);
  const { frames } = await (await get("/minute.json")).json();
  timeline.restart(frames);
}

function show(header, picture) {
  paused = header.paused;
  at("pause").firstElementChild.textContent = text(paused ? "resume" : "pause");
  at("pause").disabled = false;
  const state = paused ? "paused" : header.state;
  enter(state);
  showHealth(header.condition, header.viewers);
  showSession(header);
  at("notice").classList.toggle("waiting", !picture);
  // Before the first picture it is unknown who is in sight.
  describeAbsence(state === "running" && !picture ? "starting" : state);
  // The last picture of a lost source shows nothing that is true now.
  if (picture && state === "running") {
    showFrame(header.frame, picture, header.crops);
  } else {
    picture?.close();
    showNothing();
  }
}

function showFrame(frame, picture, crops) {
  const now = performance.now();
  view.isRead = now - readAt > READING_INTERVAL;
  if (view.isRead) readAt = now;
  timeline.record(frame);
  showPicture(frame, picture, view);
  showFaces(frame.faces, crops, view);
  at("caption").textContent = caption(frame);
}

function showNothing() {
  clearPicture();
  showFaces([], {}, view);
  at("caption").textContent = "";
}

function lose() {
  enter("away");
  describeAbsence("away");
  at("pause").disabled = true;
  showNothing();
}

/** Show a change of the state. */
function enter(state) {
  if (document.body.dataset.state === state) return;
  document.body.dataset.state = state;
  const isPaused = state === "paused";
  const pausedReason = session?.camera ? "pausedCamera" : "pausedFile";
  at("state").textContent = text(`state.${state}.name`);
  at("notice-title").textContent = text(`state.${state}.title`);
  at("notice-reason").textContent = text(isPaused ? pausedReason : `state.${state}.reason`);
  at("pipeline-detail").textContent = text(state === "running" ? "pipelineDetail" : "stale");
}

/** Show why there are no faces. */
function describeAbsence(state) {
  at("no-faces").textContent = text(`noFaces.${state}`);
}

function caption({ width, height, frame, file, position, latency_ms: latency }) {
  if (file) return text("captionFile", { file, width, height });
  const age = Math.round(latency);
  if (position === null) return text("caption", { width, height, frame, age });
  return text("captionVideo", { width, height, position: position.toFixed(1), age });
}

async function togglePause() {
  const headers = { "X-Preview-Token": session.token };
  try {
    const { status } = await fetch(paused ? "/resume" : "/pause", { method: "POST", headers });
    at("pause-unsaved").hidden = status !== 500;
  } catch {
    lose();
  }
}

function toggle(name) {
  view[name] = !view[name];
  at(name).setAttribute("aria-pressed", view[name]);
  readAt = -Infinity;
}

function toggleRaw() {
  toggle("raw");
  at("key-bar").textContent = text(view.raw ? "thisFrame" : "smoothed");
  at("key-tick").textContent = text(view.raw ? "smoothed" : "thisFrame");
}

function toggleZones() {
  toggle("zones");
  drawZones(view.zones);
}

/** Fill the screen with a mirrored picture, or stop that. */
async function toggleMirror() {
  const on = !document.body.classList.contains("mirror");
  document.body.classList.toggle("mirror", on);
  mirror(on);
  // Where full screen is not available, the picture fills the window.
  if (on) await at("frame").requestFullscreen?.().catch(() => {});
  else if (document.fullscreenElement) await document.exitFullscreen();
}

async function copyZones() {
  at("zones-text").select();
  // The clipboard's API needs HTTPS or localhost.
  if (navigator.clipboard) await navigator.clipboard.writeText(at("zones-text").value);
  else document.execCommand("copy");
  at("zones-copy").textContent = text("copied");
  setTimeout(() => { at("zones-copy").textContent = text("copy"); }, 2000);
}

at("pause").addEventListener("click", togglePause);
at("raw").addEventListener("click", toggleRaw);
at("crops").addEventListener("click", () => toggle("crops"));
at("mirror").addEventListener("click", toggleMirror);
at("zones").addEventListener("click", toggleZones);
at("zones-copy").addEventListener("click", copyZones);
at("zones-clear").addEventListener("click", clearZones);
at("photo").addEventListener("click", () => at("photo-file").click());
at("frame").addEventListener("click", () => {
  if (document.body.classList.contains("mirror")) toggleMirror();
});
document.addEventListener("fullscreenchange", () => {
  if (!document.fullscreenElement && document.body.classList.contains("mirror")) toggleMirror();
});
at("shortcuts").addEventListener("change", ({ target }) => {
  document.body.classList.toggle("keyless", !target.checked);
});

const BUTTONS = { p: "pause", r: "raw", c: "crops", m: "mirror", z: "zones", d: "download" };
document.addEventListener("keydown", (event) => {
  const isModified = event.ctrlKey || event.metaKey || event.altKey || event.repeat;
  if (isModified || event.target.matches("textarea, select") || at("photo-dialog").open) return;
  if (event.key === "Escape" && document.body.classList.contains("mirror")) toggleMirror();
  if (!event.target.matches("button") && handleZoneKey(event.key)) event.preventDefault();
  const button = BUTTONS[event.key.toLowerCase()];
  if (button && at("shortcuts").checked) at(button).click();
});

document.querySelectorAll("template").forEach(({ content }) => {
  content.querySelectorAll(".axis span").forEach((element, index) => {
    element.textContent = textList("axis")[index];
  });
});
offerLanguages(at("language"));
acceptPhotos(() => session.token);
connect({ begin, show, lose });
