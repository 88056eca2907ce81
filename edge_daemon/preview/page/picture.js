// The picture, and over it the boxes: elements, not pixels, so that they stay sharp.

import { tint, verdict } from "./emotions.js";

const LABEL_ROOM = 0.09; // part of the height above a box that its label takes

const screen = document.getElementById("screen");
const canvas = document.getElementById("picture");
const boxes = document.getElementById("boxes");
const elements = new Map(); // by track

export function showPicture(frame, picture, raw) {
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    canvas.width = picture.width;
    canvas.height = picture.height;
    screen.style.setProperty("--ratio", picture.width / picture.height);
  }
  canvas.getContext("2d").drawImage(picture, 0, 0);
  picture.close();
  for (const id of elements.keys()) {
    if (!frame.faces.some((face) => face.track_id === id)) removeBox(id);
  }
  for (const face of frame.faces) place(face, frame, raw);
}

/** Leave nothing of the last picture. */
export function clearPicture() {
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  for (const id of elements.keys()) removeBox(id);
}

function place(face, frame, raw) {
  const box = elements.get(face.track_id) ?? addBox(face.track_id);
  const [x, y, width, height] = face.box;
  const { emotion, words } = verdict(face, raw);
  box.style.left = `${(100 * x) / frame.width}%`;
  box.style.top = `${(100 * y) / frame.height}%`;
  box.style.width = `${(100 * width) / frame.width}%`;
  box.style.height = `${(100 * height) / frame.height}%`;
  box.classList.toggle("unsure", face.uncertain || !emotion);
  box.classList.toggle("high", y / frame.height < LABEL_ROOM);
  tint(box, emotion);
  const label = box.firstChild;
  label.textContent = `#${face.track_id} ${words}`;
  const end = x / frame.width + label.offsetWidth / screen.clientWidth;
  box.classList.toggle("right", end > 1);
}

function addBox(id) {
  const box = document.createElement("div");
  box.className = "box";
  box.append(document.createElement("span"));
  boxes.append(box);
  elements.set(id, box);
  return box;
}

function removeBox(id) {
  elements.get(id).remove();
  elements.delete(id);
}
