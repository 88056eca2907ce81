// A photo that the user drops on the page: the daemon analyses its pixels and stores nothing.

import { tint, verdict } from "./emotions.js";
import { addBars, copy, drawCrop, writeBars } from "./faces.js";
import { placeLabels } from "./labels.js";
import { text } from "./text.js";

const MAX_SIDE = 960; // pixels, as the daemon accepts them
const FONT = "600 15px system-ui, sans-serif";
const LABEL_HEIGHT = 22; // pixels

const at = (id) => document.getElementById(id);
const dialog = at("photo-dialog");
const canvas = at("photo-canvas");

let latest = 0; // number of the latest photo: results of earlier ones are not shown

/** Accept photos by drop and by the file input; `token` returns the form token. */
export function acceptPhotos(token) {
  at("photo-file").addEventListener("change", ({ target }) => {
    if (target.files.length) analyse(target.files[0], token());
    target.value = "";
  });
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    analyse(event.dataTransfer.files[0], token());
  });
  at("photo-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height));
}

async function analyse(file, token) {
  const number = ++latest;
  at("photo-faces").replaceChildren();
  at("photo-status").textContent = text("photoWaiting");
  if (!dialog.open) dialog.showModal();
  try {
    const picture = await createImageBitmap(file);
    if (number !== latest) return;
    const { frame, crops } = await sent(drawn(picture), token);
    if (number !== latest) return;
    drawFaces(frame.faces);
    at("photo-faces").replaceChildren(...frame.faces.map((face) => faceCard(face, crops)));
    const count = frame.faces.length;
    at("photo-status").textContent = count ? text("photoFaces", { count }) : text("photoNoFaces");
  } catch (error) {
    if (number !== latest) return;
    const isImage = error.name !== "InvalidStateError" && error.name !== "EncodingError";
    at("photo-status").textContent = text(isImage ? "photoFailed" : "photoNotAnImage");
  }
}

/** Draw the photo, reduced if it is large, and return its pixels. */
function drawn(picture) {
  const scale = Math.min(1, MAX_SIDE / Math.max(picture.width, picture.height));
  canvas.width = Math.max(1, Math.round(scale * picture.width));
  canvas.height = Math.max(1, Math.round(scale * picture.height));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  picture.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

async function sent({ data, width, height }, token) {
  const headers = { "X-Preview-Token": token, "Content-Type": "application/octet-stream" };
  const url = `/photo?width=${width}&height=${height}`;
  const response = await fetch(url, { method: "POST", headers, body: data });
  if (!response.ok) throw new Error(response.statusText);
  return response.json();
}

function drawFaces(faces) {
  const context = canvas.getContext("2d");
  context.font = FONT;
  const items = faces.map((face) => {
    const words = `#${face.track_id} ${verdict(face, false).words}`;
    const width = Math.ceil(context.measureText(words).width) + 12;
    const [left, top, boxWidth, boxHeight] = face.box;
    const box = { left, top, width: boxWidth, height: boxHeight };
    return { id: face.track_id, box, words, sizes: [{ width, height: LABEL_HEIGHT }] };
  });
  const placements = placeLabels(items, canvas, new Map());
  for (const { id, box, words } of items) {
    context.lineWidth = 3;
    context.strokeStyle = "#ffffff";
    context.strokeRect(box.left, box.top, box.width, box.height);
    const rect = placements.get(id)?.rect;
    if (!rect) continue;
    context.fillStyle = "rgb(8 10 12 / 86%)";
    context.fillRect(rect.left, rect.top, rect.width, rect.height);
    context.fillStyle = "#ffffff";
    context.fillText(words, rect.left + 6, rect.top + 16);
  }
}

function faceCard(face, crops) {
  const element = copy("photo-face");
  const { emotion, words } = verdict(face, false);
  element.querySelector("h3").textContent = text("face", { id: face.track_id });
  element.querySelector(".verdict span").textContent = words;
  tint(element.querySelector(".verdict"), emotion);
  const crop = element.querySelector(".crop");
  crop.setAttribute("aria-label", text("cropLabel", { id: face.track_id }));
  drawCrop(crop, crops[face.track_id]);
  writeBars(addBars(element.querySelector(".bars")), face.probabilities, null);
  return element;
}
