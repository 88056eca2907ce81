// A card for each face: its ribbon, its crop, and a bar for each emotion.

import { EMOTIONS, percent, tint, verdict } from "./emotions.js";
import { text } from "./text.js";
import { draw, forget } from "./timeline.js";

const GRACE = 1000; // milliseconds for which a missing face keeps its place
const REMOVAL = 4000; // milliseconds after which its card is removed

const list = document.getElementById("cards");
const cards = new Map(); // by track

/**
 * Bring the cards in line with the faces in sight. Numbers and bars change together, with frames
 * whose words are read.
 *
 * @param {object[]} faces
 * @param {object} crops
 * @param {{raw: boolean, crops: boolean, isRead: boolean}} view
 */
export function showFaces(faces, crops, view) {
  const inSight = new Set(faces.map((face) => face.track_id));
  for (const face of faces) {
    const isNew = !cards.has(face.track_id);
    const card = cards.get(face.track_id) ?? addCard(face.track_id);
    if (view.isRead || isNew) {
      write(card, face, view.raw);
      if (view.crops && crops[face.track_id]) drawCrop(card.crop, crops[face.track_id]);
    }
    card.crop.hidden = !view.crops;
  }
  for (const [id, card] of cards) {
    if (inSight.has(id)) stay(card, id);
    else leave(card, id);
    draw(card.ribbon, id, view.raw);
  }
}

/** A row of a bar and two numbers for each emotion. */
export function addBars(parent) {
  return EMOTIONS.map((name) => {
    const row = copy("bar");
    row.querySelector(".label").textContent = text(`emotions.${name}`);
    tint(row, name);
    parent.append(row);
    return row;
  });
}

/** Write probabilities into rows; `other` is what the tick and the second number show. */
export function writeBars(rows, probabilities, other) {
  const leading = probabilities && Math.max(...Object.values(probabilities));
  EMOTIONS.forEach((name, index) => {
    const row = rows[index];
    const track = row.querySelector(".track");
    track.style.setProperty("--share", probabilities?.[name] ?? 0);
    track.style.setProperty("--other", other?.[name] ?? 0);
    row.classList.toggle("leading", Boolean(probabilities) && probabilities[name] === leading);
    row.querySelector("b").textContent = probabilities ? percent(probabilities[name]) : "–";
    row.querySelector("small").textContent = other ? percent(other[name]) : "";
  });
}

/** Draw 48x48 grey pixels, given as base64. */
export function drawCrop(canvas, base64) {
  const grey = atob(base64);
  const image = new ImageData(48, 48);
  for (let pixel = 0; pixel < grey.length; pixel++) {
    const value = grey.charCodeAt(pixel);
    image.data.set([value, value, value, 255], 4 * pixel);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

export function copy(template) {
  return document.getElementById(template).content.firstElementChild.cloneNode(true);
}

function write(card, face, raw) {
  const { emotion, words } = verdict(face, raw);
  card.words.textContent = words;
  tint(card.element.querySelector(".verdict"), emotion);
  const values = [face.probabilities, face.raw];
  const [main, other] = raw ? values.reverse() : values;
  card.element.classList.toggle("unscored", !main);
  writeBars(card.rows, main, other);
}

function stay(card, id) {
  for (const timer of card.timers.splice(0)) clearTimeout(timer);
  card.element.classList.remove("missing", "gone");
  card.name.textContent = text("face", { id });
}

function leave(card, id) {
  if (card.timers.length) return;
  card.element.classList.add("missing");
  card.timers.push(setTimeout(() => {
    card.element.classList.add("gone");
    card.name.textContent = text("faceLeft", { id });
  }, GRACE));
  card.timers.push(setTimeout(removeCard, REMOVAL, id));
}

function addCard(id) {
  const element = copy("card");
  const ribbon = element.querySelector(".ribbon");
  ribbon.setAttribute("aria-label", text("ribbonLabel", { id }));
  const crop = element.querySelector(".crop");
  crop.setAttribute("aria-label", text("cropLabel", { id }));
  const card = {
    element,
    ribbon,
    crop,
    name: element.querySelector("h3"),
    words: element.querySelector(".verdict span"),
    rows: addBars(element.querySelector(".bars")),
    timers: [],
  };
  const later = [...cards].filter(([other]) => other > id).sort(([a], [b]) => a - b)[0];
  list.insertBefore(element, later?.[1].element ?? null);
  cards.set(id, card);
  return card;
}

function removeCard(id) {
  cards.get(id).element.remove();
  cards.delete(id);
  forget(id);
}
