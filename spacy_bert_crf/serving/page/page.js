// The page to try a pipeline: it sends the text to the server, and shows what comes back.
"use strict";
const $ = (id) => document.getElementById(id);
const HUES = [215, 28, 145, 285, 340, 180, 52, 100, 255, 8, 160, 310];
const WAIT = 120; // milliseconds without typing before the text is sent
const state = {
  pipelines: [], limits: {}, labels: [], hues: {}, fixed: [], answer: null, text: "",
  names: [], token: "", number: 0, timer: 0, chosen: null, language: "en",
};

// Offsets of the server count characters (code points), those of the browser UTF-16 units.
const points = (text) => Array.from(text);
const countTo = (text, units) => points(text.slice(0, units)).length;

function word(name, ...args) {
  const found = WORDS[state.language][name];
  return typeof found === "function" ? found(...args) : found;
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function percent(p) {
  return p === undefined || p === null ? "" : p >= 0.9995 && p < 1 ? ">0.999" : p.toFixed(3);
}

function hue(label) {
  if (!(label in state.hues)) state.hues[label] = HUES[Object.keys(state.hues).length % HUES.length];
  return state.hues[label];
}

// ------------------------------------------------------------------ the server

async function ask(path, body) {
  const headers = state.token ? { Authorization: `Bearer ${state.token}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body),
    });
  } catch {
    throw new Error(word("lost"));
  }
  const found = await response.json().catch(() => ({}));
  if (response.status === 401) {
    $("token-box").hidden = false;
    throw new Error(word("needToken"));
  }
  if (!response.ok) throw new Error(found.error || `${response.status} ${response.statusText}`);
  return found;
}

function showError(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
}

async function start() {
  try {
    const found = await ask("pipelines");
    state.pipelines = found.pipelines;
    state.limits = found.limits;
    $("token-box").hidden = true;
    showError("");
  } catch (error) {
    showError(error.message);
    return;
  }
  $("pipeline").replaceChildren(...state.pipelines.map((each) =>
    make("option", { value: each.name, textContent: each.name })));
  $("pipeline-box").hidden = state.pipelines.length < 2;
  $("nbest").max = Math.min(8, state.limits.nbest);
  choosePipeline();
}

function pipeline() {
  return state.pipelines[$("pipeline").selectedIndex];
}

function choosePipeline() {
  const { labels, lang, options } = pipeline();
  state.labels = labels;
  state.hues = {};
  state.fixed = [];
  state.names = [];
  labels.forEach(hue);
  for (const id of ["options", "dictionary-section", "candidates-section", "readings-section"]) {
    $(id).hidden = !options;
  }
  $("name-label").replaceChildren(...labels.map((label) => make("option", { textContent: label })));
  drawNames();
  $("labels").replaceChildren(...labels.map((label) => make("label", {},
    make("input", { type: "checkbox", checked: true, value: label, onchange: send }), ` ${label}`)));
  $("result").lang = lang;
  const examples = EXAMPLES[lang] || EXAMPLES.en;
  $("examples").replaceChildren(...examples.map((text) => make("button", {
    type: "button", textContent: points(text).slice(0, 12).join("") + "…", title: text, lang,
    onclick: () => { $("text").value = text; state.fixed = []; send(); },
  })));
  if (!$("text").value) $("text").value = examples[0];
  send();
}

async function send() {
  clearTimeout(state.timer);
  const text = $("text").value, number = ++state.number, begin = performance.now();
  if (text !== state.text) { state.fixed = stillThere(text); state.text = text; choose(null); }
  if (points(text).length > state.limits.chars) {
    showError(word("tooLong", state.limits.chars));
    return;
  }
  const body = { texts: [{ text }] };
  if (state.pipelines.length > 1) body.pipeline = pipeline().name;
  if (pipeline().options) {
    const boxes = [...$("labels").querySelectorAll("input")];
    Object.assign(body, {
      scores: true, threshold: 0, candidates: +$("candidates").value, nbest: +$("nbest").value,
    });
    if (boxes.some((box) => !box.checked)) {
      body.labels = boxes.filter((box) => box.checked).map((box) => box.value);
    }
    if (state.fixed.length) body.texts[0].entities = state.fixed;
    if (state.names.length) body.dictionary = state.names;
  }
  try {
    const found = await ask("annotate", body);
    if (number !== state.number) return; // a later request is on its way
    state.answer = found.texts[0];
    showError("");
    draw(Math.round(performance.now() - begin));
  } catch (error) {
    if (number === state.number) showError(error.message);
  }
}

// Entities fixed by hand that the changed text still has at their place.
function stillThere(text) {
  const before = points(state.text), after = points(text);
  return state.fixed.filter(({ start, end }) =>
    before.slice(start, end).join("") === after.slice(start, end).join(""));
}

// ------------------------------------------------------------------ what is shown

function shown() {
  const least = +$("threshold").value;
  return state.answer.entities.filter((each) =>
    each.fixed || each.probability == null || each.probability >= least);
}

function marked(text, entities, element) {
  const all = points(text), out = [];
  let at = 0;
  for (const each of entities) {
    out.push(all.slice(at, each.start).join(""), element(each, all.slice(each.start, each.end).join("")));
    at = each.end;
  }
  return [...out, all.slice(at).join("")];
}

function colour(element, each) {
  element.style.setProperty("--hue", each.label === null ? 0 : hue(each.label));
  element.style.setProperty("--p", each.probability ?? 1);
  if (each.fixed) element.classList.add("fixed");
  if (each.label === null) element.classList.add("empty");
  return element;
}

function entityButton(each, text) {
  const told = each.fixed ? word("fixed") : percent(each.probability);
  const name = each.label === null ? word("noEntity") : each.label;
  const button = make("button", {
    type: "button", className: "entity", title: [name, told].filter(Boolean).join(" · "),
    onclick: () => choose({ start: each.start, end: each.end, text }),
  }, text, make("small", { textContent: each.label === null ? "∅" : each.label }));
  button.setAttribute("aria-label", [text, name, told].filter(Boolean).join(", "));
  return colour(button, each);
}

function draw(milliseconds) {
  const entities = shown();
  const empty = state.fixed.filter((each) => each.label === null).map((each) => ({ ...each, fixed: true }));
  const all = [...entities, ...empty].sort((a, b) => a.start - b.start);
  $("result").replaceChildren(...marked(state.text, all, entityButton));
  if (milliseconds !== undefined) $("status").textContent = word("found", entities.length, milliseconds);
  else $("status").textContent = entities.length ? "" : word("noEntities");
  $("release").hidden = !state.fixed.length;
  $("list").tBodies[0].replaceChildren(...entities.map((each) => make("tr", {},
    ...[each.text, each.label, `${each.start}–${each.end}`, each.fixed ? word("fixed") : percent(each.probability)]
      .map((cell) => make("td", { textContent: cell })))));
  const candidates = [...(state.answer.candidates || [])].sort((a, b) => b.probability - a.probability);
  $("candidate-list").replaceChildren(...(candidates.length ? candidates.map((each) => make("li", {},
    colour(make("button", {
      type: "button", className: "entity", onclick: () => fix(each, each.label),
    }, each.text, make("small", { textContent: `${each.label} ${percent(each.probability)}` })), each)))
    : [make("li", { textContent: word("none") })]));
  $("readings").replaceChildren(...(state.answer.readings || []).map((reading) => make("li", {},
    make("p", { className: "help", textContent: word("reading", percent(reading.probability)) }),
    ...marked(state.text, reading.entities, (each, text) => colour(
      make("span", { className: "entity" }, text, make("small", { textContent: each.label })), each)))));
}

// ------------------------------------------------------------------ fixed by hand

function choose(span) {
  state.chosen = span;
  $("fix").hidden = !span || !pipeline().options;
  if ($("fix").hidden) return;
  $("fix-title").textContent = word("fixTitle", span.text);
  $("fix-labels").replaceChildren(...state.labels.map((label) => make("button", {
    type: "button", textContent: label, onclick: () => fix(span, label),
  })));
  $("fix-free").hidden = !state.fixed.some((each) => overlaps(each, span));
  $("fix-labels").querySelector("button")?.focus();
}

const overlaps = (a, b) => a.start < b.end && b.start < a.end;

function fix({ start, end }, label) {
  state.fixed = state.fixed.filter((each) => !overlaps(each, { start, end }));
  if (label !== undefined) state.fixed.push({ start, end, label });
  choose(null);
  $("result").focus();
  send();
}

function chooseSelection() {
  const selection = getSelection();
  if (selection.isCollapsed || !selection.rangeCount) return;
  const range = selection.getRangeAt(0);
  if (!$("result").contains(range.commonAncestorContainer)) return;
  const [start, end] = [[range.startContainer, range.startOffset], [range.endContainer, range.endOffset]]
    .map(([node, offset]) => offsetOf(node, offset));
  if (start < end) choose({ start, end, text: points(state.text).slice(start, end).join("") });
}

// The number of characters of the text before a place in the result. Labels are no characters of it.
function offsetOf(node, offset) {
  const range = document.createRange();
  range.setStart($("result"), 0);
  range.setEnd(node, offset);
  const before = range.cloneContents();
  before.querySelectorAll("small").forEach((each) => each.remove());
  return points(before.textContent).length;
}

// In the text box: Alt+F fixes what is selected there, for those who use no mouse.
function chooseFromBox() {
  const box = $("text"), text = box.value;
  const start = countTo(text, box.selectionStart), end = countTo(text, box.selectionEnd);
  if (start < end && text === state.text) choose({ start, end, text: points(text).slice(start, end).join("") });
}

// ------------------------------------------------------------------ names that are tried

function drawNames() {
  $("names").replaceChildren(...state.names.map((each) => {
    const told = `${each.text} · ${each.label} · ${word(each.mode)}`;
    const button = make("button", {
      type: "button", className: "entity", textContent: `${told} ×`,
      onclick: () => { changeNames(state.names.filter((other) => other !== each)); $("name").focus(); },
    });
    button.setAttribute("aria-label", word("remove", told));
    return make("li", {}, colour(button, { label: each.label }));
  }));
}

function changeNames(names) {
  state.names = names;
  drawNames();
  send();
}

function addName(event) {
  event.preventDefault();
  const text = $("name").value.trim();
  if (!text) return;
  const added = { text, label: $("name-label").value, mode: $("name-mode").value };
  $("name").value = "";
  const same = (each) => each.text === text && each.label === added.label;
  changeNames([...state.names.filter((each) => !same(each)), added]);
}

async function copy() {
  const found = { text: state.text, ...state.answer, entities: shown() };
  try {
    await navigator.clipboard.writeText(JSON.stringify(found, null, 2));
    $("status").textContent = word("copied");
  } catch {
    $("status").textContent = word("notCopied");
  }
}

// ------------------------------------------------------------------ language, events

function translate() {
  document.documentElement.lang = state.language;
  for (const each of document.querySelectorAll("[data-word]")) each.textContent = word(each.dataset.word);
  if (state.labels.length) drawNames();
  if (state.answer) draw();
}

function remember(key, value) {
  try {
    if (value !== undefined) localStorage.setItem(key, value);
    return localStorage.getItem(key);
  } catch {
    return null; // the browser keeps nothing
  }
}

const later = () => { clearTimeout(state.timer); state.timer = setTimeout(send, WAIT); };
$("text").addEventListener("input", later);
$("text").addEventListener("keydown", (event) => {
  if (event.altKey && event.code === "KeyF") { event.preventDefault(); chooseFromBox(); }
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") choose(null); });
$("pipeline").addEventListener("change", choosePipeline);
for (const id of ["threshold", "candidates", "nbest"]) {
  $(id).addEventListener("input", () => {
    $(`${id}-value`).textContent = $(id).value;
    if (id !== "threshold") later();
    else if (state.answer) draw();
  });
}
$("result").addEventListener("mouseup", chooseSelection);
$("result").addEventListener("keyup", (event) => { if (event.shiftKey) chooseSelection(); });
$("fix-none").addEventListener("click", () => fix(state.chosen, null));
$("fix-free").addEventListener("click", () => fix(state.chosen));
$("fix-close").addEventListener("click", () => choose(null));
$("release").addEventListener("click", () => { state.fixed = []; send(); });
$("copy").addEventListener("click", copy);
$("dictionary-form").addEventListener("submit", addName);
$("token-box").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = $("token").value;
  start();
});
$("language").addEventListener("change", () => {
  state.language = remember("bert-crf-language", $("language").value) || $("language").value;
  translate();
});
state.language = remember("bert-crf-language") || (navigator.language.startsWith("zh") ? "zh" : "en");
if (!(state.language in WORDS)) state.language = "en";
$("language").value = state.language;
translate();
start();
