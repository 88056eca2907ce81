// Places labels next to faces, so that they cover neither faces nor each other.

const GAP = 4; // pixels between a face and its label
const STEP = 10; // pixels between two candidate positions of a search

/**
 * @param {{id: number, box: Rect, sizes: {width: number, height: number}[]}[]} faces
 *   with the sizes of their label, from the preferred form to the shortest
 * @param {{width: number, height: number}} bounds of the picture
 * @param {Map<number, {form: number, dx: number, dy: number}>} previous placements by face
 * @returns {Map<number, {form: number, dx: number, dy: number, rect: Rect}>} placements; a face
 *   without room for any form has none
 *
 * Rect is {left, top, width, height} in pixels; dx and dy are relative to the face.
 */
export function placeLabels(faces, bounds, previous) {
  const boxes = faces.map(({ box }) => box);
  const placed = [];
  const placements = new Map();
  const isFree = (rect) =>
    isInside(rect, bounds) && ![...boxes, ...placed].some((other) => overlap(rect, other));
  for (const { id, box, sizes } of faces) {
    const found = kept(box, sizes, previous.get(id), isFree) ?? search(box, sizes, bounds, isFree);
    if (!found) continue;
    placed.push(found.rect);
    placements.set(id, found);
  }
  return placements;
}

/** The previous placement, as long as it is free: labels should not jump about. */
function kept(box, sizes, before, isFree) {
  if (!before || before.form > 0 || !sizes[before.form]) return null;
  return placement(box, sizes, before.form, box.left + before.dx, box.top + before.dy, isFree);
}

function search(box, sizes, bounds, isFree) {
  for (let form = 0; form < sizes.length; form++) {
    for (const [left, top] of candidates(box, sizes[form], bounds)) {
      const found = placement(box, sizes, form, left, top, isFree);
      if (found) return found;
    }
  }
  return null;
}

function placement(box, sizes, form, left, top, isFree) {
  const rect = { left, top, ...sizes[form] };
  return isFree(rect) ? { form, dx: left - box.left, dy: top - box.top, rect } : null;
}

/** Positions above and below the face, then all others by their distance. */
function* candidates(box, size, bounds) {
  const lefts = [box.left, box.left + box.width - size.width];
  const clamped = lefts.map((left) => Math.max(0, Math.min(bounds.width - size.width, left)));
  for (const top of [box.top - size.height - GAP, box.top + box.height + GAP]) {
    for (const left of clamped) yield [left, top];
  }
  const others = [];
  for (let top = 0; top <= bounds.height - size.height; top += STEP) {
    for (let left = 0; left <= bounds.width - size.width; left += STEP) {
      others.push([left, top, distance({ left, top, ...size }, box)]);
    }
  }
  yield* others.sort(([, , one], [, , two]) => one - two);
}

/** Squared distance between the centres. */
function distance(one, two) {
  const x = one.left + one.width / 2 - two.left - two.width / 2;
  const y = one.top + one.height / 2 - two.top - two.height / 2;
  return x * x + y * y;
}

function overlap(one, two) {
  return (
    one.left < two.left + two.width &&
    two.left < one.left + one.width &&
    one.top < two.top + two.height &&
    two.top < one.top + one.height
  );
}

function isInside({ left, top, width, height }, bounds) {
  return left >= 0 && top >= 0 && left + width <= bounds.width && top + height <= bounds.height;
}
