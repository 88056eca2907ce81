// A card for each face: its ribbon, its crop, and a bar for each emotion.

import { EMOTIONS, percent, tint, verdict } from "./emotions.js";
import { draw, forget } from "./timeline.js";

const FAREWELL = 3000; // milliseconds for which a face that left is still shown
const READING_PACE = 250; // milliseconds between two changes of a number

const list = document.getElementById("cards");
const cards = new Map(); // by track

/** Bring the cards in line with the faces in sight; `view` is {raw, crops}. */
export function showFaces(faces, crops, view) {
  const inSight = new Set(faces.map((face) => face.track_id));
  for (const face of faces) {
    const card = cards.get(face.track_id) ?? addCard(face.track_id);
    update(card, face, view);
    if (performance.now() - card.read > READING_PACE) write(card, face, view);
    if (view.crops && crops[face.track_id]) drawCrop(card, crops[face.track_id]);
    card.crop.hidden = !view.crops;
  }
  for (const [id, card] of cards) {
    if (inSight.has(id)) stay(card, id);
    else leave(card, id);
    draw(card.ribbon, id, view.raw);
  }
}

/** Write numbers at the next occasion, without waiting for their pace. */
export function rewrite() {
  for (const card of cards.values()) card.read = -Infinity;
}

function update(card, face, { raw }) {
  const [shown, other] = raw ? [face.raw, face.probabilities] : [face.probabilities, face.raw];
  card.element.classList.toggle("unscored", !shown);
  EMOTIONS.forEach((name, index) => {
    const { track } = card.bars[index];
    track.style.setProperty("--share", shown?.[name] ?? 0);
    track.style.setProperty("--other", other?.[name] ?? 0);
  });
}

function write(card, face, { raw }) {
  card.read = performance.now();
  const { emotion, words } = verdict(face, raw);
  card.words.textContent = words;
  tint(card.element.querySelector(".verdict"), emotion);
  const [shown, other] = raw ? [face.raw, face.probabilities] : [face.probabilities, face.raw];
  EMOTIONS.forEach((name, index) => {
    const { row, main, side } = card.bars[index];
    row.classList.toggle("leading", name === emotion);
    main.textContent = shown ? percent(shown[name]) : "–";
    side.textContent = other ? percent(other[name]) : "–";
  });
}

function drawCrop(card, base64) {
  const grey = atob(base64);
  const image = new ImageData(48, 48);
  for (let pixel = 0; pixel < grey.length; pixel++) {
    const value = grey.charCodeAt(pixel);
    image.data.set([value, value, value, 255], 4 * pixel);
  }
  card.crop.getContext("2d").putImageData(image, 0, 0);
}

function stay(card, id) {
  clearTimeout(card.farewell);
  card.farewell = null;
  card.element.classList.remove("gone");
  card.name.textContent = `Face ${id}`;
}

function leave(card, id) {
  card.farewell ??= setTimeout(removeCard, FAREWELL, id);
  card.element.classList.add("gone");
  card.name.textContent = `Face ${id} left`;
}

function addCard(id) {
  const element = copy("card");
  const ribbon = element.querySelector(".ribbon");
  ribbon.setAttribute("aria-label", `Emotions of face ${id} over the last 60 seconds`);
  const crop = element.querySelector(".crop");
  crop.setAttribute("aria-label", `Face ${id} as the models see it, 48 by 48 pixels`);
  const bars = EMOTIONS.map((name) => addBar(element.querySelector(".bars"), name));
  const name = element.querySelector("h3");
  const words = element.querySelector(".verdict span");
  const card = { element, name, words, ribbon, crop, bars, read: -Infinity, farewell: null };
  const later = [...cards].filter(([other]) => other > id).sort(([a], [b]) => a - b)[0];
  list.insertBefore(element, later?.[1].element ?? null);
  cards.set(id, card);
  return card;
}

function addBar(bars, name) {
  const row = copy("bar");
  row.querySelector(".label").textContent = name;
  tint(row, name);
  bars.append(row);
  return {
    row,
    track: row.querySelector(".track"),
    main: row.querySelector("b"),
    side: row.querySelector("small"),
  };
}

function removeCard(id) {
  cards.get(id).element.remove();
  cards.delete(id);
  forget(id);
}

function copy(template) {
  return document.getElementById(template).content.firstElementChild.cloneNode(true);
}
