// Totals and events since the daemon's start.

import { get } from "./connection.js";
import { EMOTIONS, percent, tint } from "./emotions.js";
import { duration } from "./health.js";
import { text } from "./text.js";

const MAX_SHOWN = 50; // events

/** Labels of faces that count for no emotion; they have no colour. */
const OTHER_LABELS = ["uncertain", "not scored"];

const at = (id) => document.getElementById(id);
const shares = new Map([
  ...EMOTIONS.map((name) => [name, addShare(text(`emotions.${name}`), name)]),
  ...OTHER_LABELS.map((name) => [name, addShare(text(`otherLabels.${name}`), null)]),
]);

let eventCount = -1;
let isFetching = false;

/** Show totals; fetch events when there are more of them. */
export function showSession({ condition, events }) {
  const { visits, face_seconds: seconds } = condition.totals;
  const total = Object.values(seconds).reduce((sum, value) => sum + value, 0);
  at("visits").textContent = visits;
  at("face-time").textContent = duration(total);
  for (const [name, { part, figure }] of shares) {
    const share = total ? seconds[name] / total : 0;
    part.style.flexGrow = share;
    figure.textContent = `${percent(share)} %`;
  }
  if (events !== eventCount && !isFetching) fetchEvents(events);
}

async function fetchEvents(count) {
  isFetching = true;
  try {
    const response = await get("/events");
    if (!response.ok) return;
    const { events } = await response.json();
    const newest = events.slice(-MAX_SHOWN).reverse();
    at("events").replaceChildren(...newest.map(eventRow));
    at("no-events").hidden = events.length > 0;
    eventCount = count;
  } catch {
    // The connection is lost; the next message triggers another attempt.
  } finally {
    isFetching = false;
  }
}

function eventRow(event) {
  const row = document.createElement("li");
  const time = document.createElement("time");
  time.dateTime = event.time;
  time.textContent = new Date(event.time).toLocaleTimeString(document.documentElement.lang);
  const words = document.createElement("span");
  words.textContent = text(`event.${event.kind}`, {
    id: event.track_id,
    emotion: emotionName(event.emotion),
    previous: emotionName(event.previous),
    duration: duration(event.duration),
  });
  const mark = document.createElement("i");
  tint(mark, event.emotion);
  row.append(time, mark, words);
  return row;
}

function emotionName(emotion) {
  return emotion ? text(`emotions.${emotion}`) : "–";
}

function addShare(words, emotion) {
  const part = document.createElement("i");
  tint(part, emotion);
  at("shares").append(part);
  const row = document.createElement("li");
  tint(row, emotion);
  const [mark, label, figure] = ["i", "span", "b"].map((tag) => document.createElement(tag));
  label.textContent = words;
  row.append(mark, label, figure);
  at("share-list").append(row);
  return { part, figure };
}
