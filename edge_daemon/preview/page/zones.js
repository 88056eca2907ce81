// Zones in which faces are ignored: drawn over the picture, and drawn by the user.

const SVG = "http://www.w3.org/2000/svg";
const CLOSE = 12; // pixels from the first corner within which a click closes an area
const DIGITS = 3; // of a coordinate, as a share of the picture's size

const at = (id) => document.getElementById(id);
const screen = at("screen");
const layer = at("zones-layer");

let configured = []; // polygons of [x, y], 0 to 1
let drawn = [];
let corners = []; // of the polygon that is being drawn
let isDrawing = false;

/** Show the zones in the daemon's settings. */
export function showZones(zones) {
  configured = zones;
  redraw();
}

/** Start or end drawing. */
export function drawZones(on) {
  isDrawing = on;
  corners = [];
  screen.classList.toggle("drawing", on);
  at("zones-panel").hidden = !on;
  redraw();
}

/** Handle a key while zones are drawn; whether it is one of theirs. */
export function handleZoneKey(key) {
  if (!isDrawing) return false;
  if (key === "Enter") closeArea();
  else if (key === "Backspace") corners.pop();
  else return false;
  redraw();
  return true;
}

/** Remove all zones that the user has drawn. */
export function clearZones() {
  [drawn, corners] = [[], []];
  redraw();
}

screen.addEventListener("click", (event) => {
  if (!isDrawing || screen.classList.contains("mirrored")) return;
  const { left, top, width, height } = screen.getBoundingClientRect();
  const point = [(event.clientX - left) / width, (event.clientY - top) / height];
  const [first] = corners;
  const isFirst =
    first && Math.hypot((first[0] - point[0]) * width, (first[1] - point[1]) * height) < CLOSE;
  if (isFirst) closeArea();
  else corners.push(point.map((share) => Number(Math.max(0, Math.min(1, share)).toFixed(DIGITS))));
  redraw();
});

function closeArea() {
  if (corners.length > 2) drawn.push(corners);
  corners = [];
}

function redraw() {
  const shapes = [
    ...configured.map((zone) => shape("polygon", zone, "configured")),
    ...drawn.map((zone) => shape("polygon", zone, "drawn")),
  ];
  if (corners.length) shapes.push(shape("polyline", corners, "open"), ...corners.map(corner));
  layer.replaceChildren(...shapes);
  at("zones-text").value = settingsText([...configured, ...drawn]);
}

/** The zones as they stand in the settings file. */
function settingsText(zones) {
  const point = (values) => `[${values.join(", ")}]`;
  const lines = zones.map((zone) => `  [${zone.map(point).join(", ")}],`);
  return ["[zones]", "ignore = [", ...lines, "]"].join("\n");
}

function shape(tag, points, name) {
  const element = document.createElementNS(SVG, tag);
  element.setAttribute("points", points.map(([x, y]) => `${x},${y}`).join(" "));
  element.setAttribute("class", name);
  return element;
}

function corner([x, y], index) {
  const element = document.createElementNS(SVG, "ellipse");
  const { clientWidth, clientHeight } = screen;
  const radius = index ? 4 : 7; // the first one, which closes the area, is larger
  const shape = { cx: x, cy: y, rx: radius / clientWidth, ry: radius / clientHeight };
  for (const [name, value] of Object.entries(shape)) element.setAttribute(name, value);
  return element;
}
