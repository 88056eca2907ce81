// The seven emotions: order, colours, and how probabilities are written.

import { text } from "./text.js";

/** In the daemon's order, which is FER2013's. */
export const EMOTIONS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];

/** The most probable emotion of a face, by its smoothed or raw probabilities, with its label. */
export function verdict(face, raw) {
  const probabilities = raw ? face.raw : face.probabilities;
  if (!probabilities) {
    return { emotion: null, words: text(`unscored.${face.unscored ?? "other"}`) };
  }
  const emotion = EMOTIONS.reduce((best, name) =>
    probabilities[name] > probabilities[best] ? name : best,
  );
  // The flag belongs to the smoothed values.
  const mark = face.uncertain && !raw ? "?" : "";
  const words = `${text(`emotions.${emotion}`)}${mark} ${percent(probabilities[emotion])} %`;
  return { emotion, words: raw ? `${words} ${text("rawMark")}` : words };
}

export function percent(share) {
  return Math.round(100 * share);
}

/** The colours of the emotions where an element stands, light or dark. */
export function colours(element) {
  const style = getComputedStyle(element);
  return EMOTIONS.map((name) => style.getPropertyValue(`--${name}`).trim());
}

/** Give an element the colour of an emotion; null removes it. */
export function tint(element, emotion) {
  if (emotion) element.style.setProperty("--hue", `var(--${emotion})`);
  else element.style.removeProperty("--hue");
}
