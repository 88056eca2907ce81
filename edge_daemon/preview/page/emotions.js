// The seven emotions: their order, their colours, and how shares are written.

/** In the daemon's order, which is FER2013's. */
export const EMOTIONS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];

export const WHY_UNSCORED = {
  too_small: "too small to read",
  too_blurred: "too blurred to read",
  profile: "turned away",
};

/** The most probable emotion of a face, by its smoothed or raw probabilities. */
export function verdict(face, raw) {
  const shares = raw ? face.raw : face.probabilities;
  if (!shares) return { emotion: null, words: WHY_UNSCORED[face.unscored] ?? "not read" };
  const emotion = EMOTIONS.reduce((best, name) => (shares[name] > shares[best] ? name : best));
  const unsure = face.uncertain ? "?" : "";
  return { emotion, words: `${emotion}${unsure} ${percent(shares[emotion])} %` };
}

export function percent(share) {
  return Math.round(100 * share);
}

/** The colours of the emotions where an element stands, light or dark. */
export function colours(element) {
  const style = getComputedStyle(element);
  return EMOTIONS.map((name) => style.getPropertyValue(`--${name}`).trim());
}

/** Give an element the colour of an emotion; none takes it away. */
export function tint(element, emotion) {
  if (emotion) element.style.setProperty("--hue", `var(--${emotion})`);
  else element.style.removeProperty("--hue");
}
