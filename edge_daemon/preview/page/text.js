// The page's language. A new one needs a file like en.js, and a line here.

import { de } from "./de.js";
import { en } from "./en.js";

const LANGUAGES = { en, de };
const STORED = "language";

const chosen = localStorage.getItem(STORED) ?? navigator.language.slice(0, 2);
const language = chosen in LANGUAGES ? chosen : "en";
const texts = LANGUAGES[language];

/** The text of a key such as `state.lost.name`, with values in place of {name}. */
export function text(key, values = {}) {
  const template = key.split(".").reduce((branch, part) => branch[part], texts);
  return template.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** A list of texts. */
export function textList(key) {
  return texts[key];
}

/** Fill elements that name their text in `data-text`, or their label in `data-label`. */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-text]")) {
    element.textContent = text(element.dataset.text);
  }
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", text(element.dataset.label));
  }
}

/** Fill a <select> with all languages; a choice reloads the page. */
export function offerLanguages(select) {
  for (const [code, { language: name }] of Object.entries(LANGUAGES)) {
    select.add(new Option(name, code, false, code === language));
  }
  select.addEventListener("change", () => {
    localStorage.setItem(STORED, select.value);
    location.reload();
  });
}

document.documentElement.lang = language;
translate(document);
for (const template of document.querySelectorAll("template")) translate(template.content);
