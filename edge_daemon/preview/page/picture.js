// The picture, and over it boxes and labels: elements, not pixels, so that they stay sharp.

import { tint, verdict } from "./emotions.js";
import { placeLabels } from "./labels.js";

const SVG = "http://www.w3.org/2000/svg";
const PADDING = 14; // pixels of a label next to its text, as in preview.css
const LINE_HEIGHT = 1.5; // of a label, in font sizes, as in preview.css
const LEADER_FROM = 12; // pixels between a label and its face from which a line joins them

const screen = document.getElementById("screen");
const canvas = document.getElementById("picture");
const boxes = document.getElementById("boxes");
const leaders = document.getElementById("leaders");
const measure = document.createElement("canvas").getContext("2d");

const shown = new Map(); // by track: {box, label, leader, words, emotion, placement}
let mirrored = false;

/**
 * Show a frame.
 *
 * @param {object} frame
 * @param {ImageBitmap} picture
 * @param {{raw: boolean, isRead: boolean}} view isRead: whether words change with this frame
 */
export function showPicture(frame, picture, view) {
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    canvas.width = picture.width;
    canvas.height = picture.height;
    screen.style.setProperty("--ratio", picture.width / picture.height);
  }
  canvas.getContext("2d").drawImage(picture, 0, 0);
  picture.close();
  const present = new Set(frame.faces.map((face) => face.track_id));
  for (const id of shown.keys()) if (!present.has(id)) remove(id);
  const scale = { x: canvas.clientWidth / frame.width, y: canvas.clientHeight / frame.height };
  const rects = frame.faces.map((face) => placeBox(face, scale, view));
  placeAllLabels(frame.faces, rects);
}

/** Show the picture like a mirror, or not. */
export function mirror(on) {
  mirrored = on;
  screen.classList.toggle("mirrored", on);
  for (const face of shown.values()) face.placement = null;
}

/** Remove the last picture. */
export function clearPicture() {
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  for (const id of shown.keys()) remove(id);
}

function placeBox(face, scale, { raw, isRead }) {
  const item = shown.get(face.track_id) ?? add(face.track_id);
  const [x, y, width, height] = face.box;
  const rect = { left: x * scale.x, top: y * scale.y, width: width * scale.x, height: height * scale.y };
  if (mirrored) rect.left = canvas.clientWidth - rect.left - rect.width;
  move(item.box, rect);
  item.box.style.width = `${rect.width}px`;
  item.box.style.height = `${rect.height}px`;
  if (isRead || item.words === null) {
    Object.assign(item, verdict(face, raw));
    item.box.classList.toggle("unsure", face.uncertain || !item.emotion);
    for (const element of [item.box, item.label, item.leader]) tint(element, item.emotion);
  }
  return rect;
}

function placeAllLabels(faces, rects) {
  const size = Number.parseFloat(getComputedStyle(boxes).fontSize);
  measure.font = `600 ${size}px ${getComputedStyle(boxes).fontFamily}`;
  const items = faces.map((face, index) => {
    const forms = labelForms(face.track_id, shown.get(face.track_id).words);
    const sizes = forms.map((words) => ({
      width: Math.ceil(measure.measureText(words).width) + PADDING,
      height: Math.ceil(LINE_HEIGHT * size),
    }));
    return { id: face.track_id, box: rects[index], forms, sizes };
  });
  const bounds = { width: canvas.clientWidth, height: canvas.clientHeight };
  const previous = new Map([...shown].map(([id, { placement }]) => [id, placement]));
  const placements = placeLabels(items, bounds, previous);
  for (const { id, box, forms } of items) showLabel(shown.get(id), box, forms, placements.get(id));
}

/** Texts of a label, from the full one to the shortest. */
function labelForms(id, words) {
  return [`#${id} ${words}`, `#${id} ${words.replace(/ \d+ %/, "")}`, `#${id}`];
}

function showLabel(item, box, forms, placement) {
  item.placement = placement ?? null;
  item.label.hidden = !placement;
  item.leader.style.display = "none";
  if (!placement) return;
  const { rect, form } = placement;
  if (item.label.textContent !== forms[form]) item.label.textContent = forms[form];
  item.label.style.width = `${rect.width}px`;
  move(item.label, rect);
  const isAbove = rect.top + rect.height <= box.top;
  const from = isAbove ? rect.top + rect.height : rect.top;
  const to = isAbove ? box.top : box.top + box.height;
  const middle = box.left + box.width / 2;
  const start = Math.max(rect.left, Math.min(rect.left + rect.width, middle));
  if (Math.abs(from - to) < LEADER_FROM && Math.abs(start - middle) < box.width) return;
  item.leader.style.display = "";
  for (const [name, value] of Object.entries({ x1: start, y1: from, x2: middle, y2: to })) {
    item.leader.setAttribute(name, value);
  }
}

function move(element, { left, top }) {
  element.style.transform = `translate(${left}px, ${top}px)`;
}

function add(id) {
  const box = document.createElement("div");
  box.className = "box";
  const label = document.createElement("span");
  label.className = "label";
  const leader = document.createElementNS(SVG, "line");
  boxes.append(box, label);
  leaders.append(leader);
  const item = { box, label, leader, words: null, emotion: null, placement: null };
  shown.set(id, item);
  return item;
}

function remove(id) {
  const { box, label, leader } = shown.get(id);
  for (const element of [box, label, leader]) element.remove();
  shown.delete(id);
}
