"use strict";
const about = JSON.parse(document.getElementById("page").textContent);
const byId = id => document.getElementById(id);
const list = byId("crops"), dialog = byId("enlarged");
const crops = [...list.querySelectorAll(".crop")];
const heads = new Map(about.slides.map(([slide, says]) => {
  const head = document.createElement("li");
  head.className = "slide-head";
  head.textContent = says;
  return [slide, head];
}));
let shown = crops, active = null, enlarged = null;

// The user's corrections: name -> "0" or "1". This browser keeps them under a key of the model and the crops.
const marks = new Map();
let kept = true;
try {
  for (const [name, label] of Object.entries(JSON.parse(localStorage.getItem(about.key) || "{}"))) marks.set(name, label);
} catch { kept = false; }

function keep() {
  try { localStorage.setItem(about.key, JSON.stringify(Object.fromEntries(marks))); kept = true; } catch { kept = false; }
  byId("kept").hidden = kept;
  byId("kept").textContent = kept ? "" : "This browser cannot store marks: save them before you close the page.";
}

function showMark(crop) {
  const label = marks.get(crop.dataset.name);
  crop.classList.toggle("marked", label !== undefined);
  for (const button of crop.querySelectorAll(".marks button")) button.setAttribute("aria-pressed", button.dataset.label === label);
  if (crop === active)
    for (const button of dialog.querySelectorAll(".mark")) button.setAttribute("aria-pressed", button.dataset.label === label);
}

function countMarks() {
  byId("save").disabled = !marks.size;
  byId("save").textContent = marks.size ? `Save corrections (${marks.size})` : "Save corrections";
}

function mark(crop, label) {
  if (label === undefined || marks.get(crop.dataset.name) === label) marks.delete(crop.dataset.name);
  else marks.set(crop.dataset.name, label);
  keep();
  showMark(crop);
  countMarks();
}

// Return a CSV cell that no spreadsheet runs as a formula, like the tables of `predict`.
function cell(text) {
  if (!/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text))
    text = text.replace(/(?:^|(?<=[;\r\n]))(?=['" ]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])/g, "'");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function corrections() {
  const rows = crops.filter(crop => marks.has(crop.dataset.name)).map(crop => [crop.dataset.name, marks.get(crop.dataset.name)]);
  rows.sort(([a], [b]) => a < b ? -1 : 1);
  return "path,label\n" + rows.map(([name, label]) => `${cell(name)},${label}\n`).join("");
}

byId("save").onclick = () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([corrections()], {type: "text/csv"}));
  link.download = "corrections.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
};

const text = new Intl.Collator("en", {numeric: true}).compare;
const orders = {
  probability: (a, b) => b.dataset.probability - a.dataset.probability,
  "most-confident": (a, b) => b.dataset.confidence - a.dataset.confidence,
  "least-confident": (a, b) => a.dataset.confidence - b.dataset.confidence,
  slide: (a, b) => text(a.dataset.slide, b.dataset.slide) || b.dataset.probability - a.dataset.probability,
  name: (a, b) => 0,
  novelty: (a, b) => b.dataset.novelty - a.dataset.novelty,
};

function fits(crop) {
  const {name, slide} = crop.dataset, wanted = byId("search").value.trim().toLowerCase();
  return (!byId("show").value || crop.classList.contains(byId("show").value))
    && (!byId("slide").value || byId("slide").value === "=" + slide)
    && (!wanted || `${name}\n${slide}`.toLowerCase().includes(wanted));
}

function arrange() {
  const order = byId("order").value, ordered = [...crops].sort((a, b) => orders[order](a, b) || text(a.dataset.name, b.dataset.name));
  for (const crop of crops) crop.hidden = !fits(crop);
  const pieces = [];
  let slide = null;
  for (const crop of ordered) {
    if (order === "slide" && !crop.hidden && crop.dataset.slide !== slide) {
      slide = crop.dataset.slide;
      pieces.push(heads.get(slide));
    }
    pieces.push(crop);
  }
  list.replaceChildren(...pieces);
  shown = ordered.filter(crop => !crop.hidden);
  byId("count").textContent = `${shown.length} of ${crops.length} crops`;
  // Tab reaches only the active crop and its buttons; arrow keys move to the others.
  activate(shown.includes(active) ? active : shown[0]);
}

function activate(crop) {
  for (const [one, index] of [[active, -1], [crop, 0]])
    if (one) for (const button of one.querySelectorAll("button")) button.tabIndex = index;
  active = crop ?? null;
}

function focusOn(crop) {
  if (!crop) return;
  activate(crop);
  if (dialog.open) enlarge();
  else crop.querySelector(".picture").focus();
}

// Of the enlarged crop: how many pixels of the screen one of its pixels takes; 0 to fit the window.
let zoom = 0;

function enlarge() {
  if (enlarged !== active) zoom = 0;
  enlarged = active;
  const picture = dialog.querySelector(".picture"), square = picture.querySelector(".square");
  const small = active.querySelector("img.square").src, native = active.dataset.native;
  picture.querySelector(".heat").src = active.querySelector("img.heat").src;
  square.onload = size;
  square.onerror = () => { square.onerror = null; square.src = small; byId("pixels").textContent = `reduced: the folder ${about.natives} is not beside this page`; };
  byId("pixels").textContent = "";
  square.src = native || small;
  square.alt = active.querySelector("img.square").alt;
  dialog.querySelector("figcaption").textContent = square.alt;
  showMark(active);
  if (!dialog.open) dialog.showModal();
  size();
}

function size() {
  const picture = dialog.querySelector(".picture"), {naturalWidth: width, naturalHeight: height} = picture.querySelector(".square");
  const place = picture.parentElement, fit = Math.min(place.clientWidth / width, place.clientHeight / height);
  if (!width) return;
  const scale = zoom || fit;
  picture.style.width = `${width * scale}px`;
  picture.style.aspectRatio = `${width} / ${height}`;
  if (!byId("pixels").textContent.startsWith("reduced")) byId("pixels").textContent = `${width} × ${height} pixels, ${Math.round(100 * scale)} %`;
}

// Keep the middle of the crop in the middle.
function zoomBy(factor) {
  const picture = dialog.querySelector(".picture"), place = picture.parentElement, before = picture.clientWidth;
  const at = [place.scrollLeft + place.clientWidth / 2, place.scrollTop + place.clientHeight / 2];
  zoom = Math.min(16, Math.max(0.1, factor * before / picture.querySelector(".square").naturalWidth));
  size();
  const grown = picture.clientWidth / before;
  place.scrollTo(at[0] * grown - place.clientWidth / 2, at[1] * grown - place.clientHeight / 2);
}

function heatOn(on) {
  document.body.classList.toggle("heat-on", on);
  for (const id of ["heat", "heat-here"]) byId(id).setAttribute("aria-pressed", on);
}

function columns() {
  return Math.max(1, getComputedStyle(list).gridTemplateColumns.split(" ").length);
}

function walk(key) {
  const at = shown.indexOf(active);
  const to = {
    ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: dialog.open ? at - 1 : at - columns(),
    ArrowDown: dialog.open ? at + 1 : at + columns(), Home: 0, End: shown.length - 1,
  }[key];
  focusOn(shown[to]);
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
  if (event.key === "h" || event.key === "H") return heatOn(!document.body.classList.contains("heat-on"));
  if (!active) return;
  // Before anything has the focus, an arrow leads to the first crop.
  if (event.target === document.body && !dialog.open && /^(Arrow|Enter$)/.test(event.key)) {
    event.preventDefault();
    return focusOn(active);
  }
  if (!(dialog.open || event.target.closest(".crop"))) return;
  if (dialog.open && /^[-+=]$/.test(event.key)) zoomBy(event.key === "-" ? 1 / 1.5 : 1.5);
  else if (/^(Arrow|Home$|End$)/.test(event.key)) walk(event.key);
  else if (event.key === "0" || event.key === "1") marks.get(active.dataset.name) === event.key || mark(active, event.key);
  else if (event.key === "Delete" || event.key === "Backspace") mark(active);
  else return;
  event.preventDefault();
});

list.addEventListener("focusin", event => activate(event.target.closest(".crop") ?? active));
list.addEventListener("click", event => {
  const crop = event.target.closest(".crop"), button = event.target.closest(".marks button");
  if (!crop) return;
  activate(crop);
  if (button) mark(crop, button.dataset.label);
  else if (event.target.closest(".picture")) enlarge();
});
for (const button of dialog.querySelectorAll(".mark")) button.onclick = () => mark(active, button.dataset.label);
byId("back").onclick = () => walk("ArrowLeft");
byId("next").onclick = () => walk("ArrowRight");
byId("smaller").onclick = () => zoomBy(1 / 1.5);
byId("larger").onclick = () => zoomBy(1.5);
addEventListener("resize", () => dialog.open && size());
byId("close").onclick = () => dialog.close();
for (const id of ["heat", "heat-here"]) byId(id).onclick = () => heatOn(!document.body.classList.contains("heat-on"));
// The browser would focus the crop that was enlarged first.
dialog.addEventListener("close", () => focusOn(enlarged));
for (const id of ["show", "slide", "order"]) byId(id).onchange = arrange;
byId("search").oninput = arrange;
document.querySelector(".filters").open = !matchMedia("(max-width: 600px)").matches;
crops.forEach(showMark);
countMarks();
if (!kept) keep();
arrange();
