// Joins the page's parts.

import { connect } from "./connection.js";
import { rewrite, showFaces } from "./faces.js";
import { showHealth } from "./health.js";
import { clearPicture, showPicture } from "./picture.js";
import * as timeline from "./timeline.js";

const at = (id) => document.getElementById(id);

const STATES = {
  running: ["Live", "Waiting for a picture", ""],
  starting: ["Starting", "Starting", "The source is being opened."],
  paused: ["Paused", "Paused", ""],
  lost: ["Source lost", "No picture comes", "The source went away. It is being tried again."],
  away: ["No connection", "The daemon does not answer", "Trying again."],
};
const PAUSED = {
  camera: "The camera is closed. Nobody is watched until you resume.",
  file: "The file waits until you resume.",
};

const view = { raw: false, crops: false };
let session = null;
let paused = false;

connect({ begin, show, lose });

async function begin(told) {
  session = told;
  at("device").textContent = told.device;
  at("source").textContent = told.source;
  at("version").textContent = told.version;
  document.title = `${told.device}: edge-daemon preview`;
  const { frames } = await (await fetch("/minute.json")).json();
  timeline.restart(frames);
}

function show(glance, picture) {
  paused = glance.paused;
  at("pause").firstElementChild.textContent = paused ? "Resume" : "Pause";
  at("pause").disabled = false;
  enter(paused ? "paused" : glance.state);
  showHealth(glance.condition, glance.viewers);
  at("notice").classList.toggle("waiting", !picture);
  if (picture) showFrame(glance.frame, picture, glance.crops);
  else showNothing();
}

function showFrame(frame, picture, crops) {
  timeline.note(frame);
  showPicture(frame, picture, view.raw);
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
  at("pause").disabled = true;
  showNothing();
}

/** Tell a state, once. */
function enter(state) {
  if (document.body.dataset.state === state) return;
  document.body.dataset.state = state;
  const [name, what, why] = STATES[state];
  at("state").textContent = name;
  at("notice-what").textContent = what;
  at("notice-why").textContent = state === "paused" ? PAUSED[session.camera ? "camera" : "file"] : why;
}

function caption({ width, height, frame, latency_ms: late }) {
  return `${width} × ${height}, frame ${frame}, ${Math.round(late)} ms old`;
}

function togglePause() {
  const headers = { "X-Preview-Token": session.token };
  fetch(paused ? "/resume" : "/pause", { method: "POST", headers }).catch(lose);
}

function toggle(name) {
  view[name] = !view[name];
  at(name).setAttribute("aria-pressed", view[name]);
  at("key-bar").textContent = view.raw ? "this frame" : "smoothed";
  at("key-tick").textContent = view.raw ? "smoothed" : "this frame";
  rewrite();
}

at("pause").addEventListener("click", togglePause);
at("raw").addEventListener("click", () => toggle("raw"));
at("crops").addEventListener("click", () => toggle("crops"));
at("shortcuts").addEventListener("change", ({ target }) => {
  document.body.classList.toggle("keyless", !target.checked);
});

const BUTTONS = { p: "pause", r: "raw", c: "crops", d: "download" };
document.addEventListener("keydown", (event) => {
  const modified = event.ctrlKey || event.metaKey || event.altKey || event.repeat;
  const button = BUTTONS[event.key.toLowerCase()];
  if (button && !modified && at("shortcuts").checked) at(button).click();
});
