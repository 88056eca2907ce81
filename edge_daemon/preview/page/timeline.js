// Each face's probabilities in the last minute, and their drawing: a ribbon of seven bands.

import { EMOTIONS, colours } from "./emotions.js";

const LENGTH = 60000; // milliseconds
const MAX_GAP = 1500; // milliseconds, beyond which the ribbon is cut

const histories = new Map(); // by track: {at, smoothed, raw}, the oldest first
let offset = 0; // from this clock to the daemon's

/** Replace everything by earlier frames. */
export function restart(frames) {
  histories.clear();
  frames.forEach(record);
}

export function record(frame) {
  const at = Date.parse(frame.time);
  offset = at - performance.now();
  for (const face of frame.faces) {
    if (!face.probabilities) continue;
    const history = histories.get(face.track_id) ?? [];
    histories.set(face.track_id, history);
    const last = history.at(-1)?.at ?? -Infinity;
    if (last > at + MAX_GAP) history.length = 0; // the device's clock was set back
    else if (last >= at) continue;
    history.push({ at, smoothed: ordered(face.probabilities), raw: ordered(face.raw) });
    while (history[0].at < at - LENGTH) history.shift();
  }
}

export function forget(id) {
  histories.delete(id);
}

/** Draw a face's ribbon; the right edge is now. */
export function draw(canvas, id, raw) {
  const scale = devicePixelRatio;
  const [width, height] = [canvas.clientWidth * scale, canvas.clientHeight * scale].map(Math.round);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  const now = performance.now() + offset;
  const place = (at) => width * (1 - (now - at) / LENGTH);
  const fills = colours(canvas);
  for (const piece of pieces(histories.get(id) ?? [])) {
    EMOTIONS.forEach((_, band) => {
      context.fillStyle = fills[band];
      context.fill(outline(piece, band, place, height, raw));
    });
  }
  drawMarks(context, width, height);
}

function ordered(probabilities) {
  return EMOTIONS.map((name) => probabilities[name]);
}

/** Parts of a history without a gap. */
function pieces(history) {
  const found = [];
  for (const moment of history) {
    const last = found.at(-1)?.at(-1);
    if (last && moment.at - last.at < MAX_GAP) found.at(-1).push(moment);
    else found.push([moment]);
  }
  return found;
}

/** One emotion's band, on top of those before it. */
function outline(piece, band, place, height, raw) {
  const path = new Path2D();
  const below = ({ smoothed, raw: single }, count) =>
    height * (1 - (raw ? single : smoothed).slice(0, count).reduce((sum, share) => sum + share, 0));
  for (const moment of piece) path.lineTo(place(moment.at), below(moment, band + 1));
  for (const moment of piece.toReversed()) path.lineTo(place(moment.at), below(moment, band));
  path.closePath();
  return path;
}

/** Faint lines every 15 seconds. */
function drawMarks(context, width, height) {
  context.fillStyle = "rgb(128 128 128 / 35%)";
  for (const part of [0.25, 0.5, 0.75]) {
    context.fillRect(Math.round(part * width), 0, Math.max(1, devicePixelRatio), height);
  }
}
