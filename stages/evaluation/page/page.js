"use strict";
const about = JSON.parse(document.getElementById("page").textContent);
const byId = id => document.getElementById(id);
const list = byId("crops"), dialog = byId("enlarged");
const crops = [...list.querySelectorAll(".crop")];
const slides = new Map([...document.querySelectorAll("tr[data-slide]")].map(row => {
  const head = document.createElement("li"), [name, glomeruli, positive, share] = [...row.cells].map(cell => cell.textContent);
  head.className = "slide-head";
  const predicted = `${name}: ${positive} of ${parseInt(glomeruli)} predicted ${about.classes[1]}; about ${share}`;
  return [row.dataset.slide, {row, head, predicted}];
}));
const says = new Map(crops.map(crop => [crop, crop.querySelector("img.square").alt]));
let shown = crops, active = null, enlarged = null;

// The reader's labels: name -> {label: "0" or "1", blind, date, pixels}, and the names of the crops whose predictions
// the reader has seen. This browser keeps both under the initials and a key of the model and the crops. `displayed` are
// those that this page has shown since it was opened, to any reader.
let reader = "", marks = new Map(), seen = new Set(), kept = true;
const readers = new Map(), displayed = new Set();

function load(initials) {
  reader = initials;
  let stored = {};
  try { stored = JSON.parse(localStorage.getItem(`${about.key} ${reader}`) || "{}"); } catch { kept = false; }
  // A label of other pixels that had the same name is not taken over.
  const same = crops.filter(({dataset: {name, pixels}}) => stored.marks?.[name]?.pixels === pixels).map(crop => crop.dataset.name);
  if (!readers.has(reader)) readers.set(reader, {marks: new Map(same.map(name => [name, stored.marks[name]])), seen: new Set(stored.seen)});
  ({marks, seen} = readers.get(reader));
}

function keep() {
  try {
    localStorage.setItem(`${about.key} ${reader}`, JSON.stringify({marks: Object.fromEntries(marks), seen: [...seen]}));
    localStorage.setItem("glomeruli-reader", reader);
    kept = true;
  } catch { kept = false; }
  byId("kept").hidden = kept;
  byId("kept").textContent = kept ? "" : "This browser cannot store labels: save them before you close the page.";
}

const isBlind = () => document.documentElement.classList.contains("blind");
const hides = crop => isBlind() && !marks.has(crop.dataset.name);

function see(some) {
  const before = seen.size;
  for (const crop of some) if (!hides(crop)) for (const names of [seen, displayed]) names.add(crop.dataset.name);
  if (seen.size > before) keep();
}
const watch = new IntersectionObserver(entries => see(entries.filter(one => one.isIntersecting).map(one => one.target)));

function showMark(crop) {
  const label = marks.get(crop.dataset.name)?.label;
  crop.classList.toggle("marked", label !== undefined);
  crop.classList.toggle("hides", hides(crop));
  crop.querySelector("img.square").alt = hides(crop) ? crop.querySelector(".number").textContent : says.get(crop);
  for (const button of crop.querySelectorAll(".marks button")) button.setAttribute("aria-pressed", button.dataset.label === label);
  if (crop === active)
    for (const button of dialog.querySelectorAll(".mark")) button.setAttribute("aria-pressed", button.dataset.label === label);
}

function countMarks() {
  const blind = [...marks.values()].filter(one => one.blind).length;
  byId("save").disabled = !marks.size;
  byId("save").textContent = marks.size ? `Save labels (${marks.size}${blind ? `, ${blind} blind` : ""})` : "Save labels";
}

function mark(crop, label) {
  const {name, slide, pixels} = crop.dataset;
  if (label === undefined || marks.get(name)?.label === label) marks.delete(name);
  else marks.set(name, {label, blind: isBlind() && !seen.has(name), date: new Date().toLocaleDateString("sv"), pixels});
  see([crop]);
  keep();
  showMark(crop);
  if (dialog.open) enlarge();
  countMarks();
  correct(slide);
}

function showAll() {
  crops.forEach(showMark);
  countMarks();
  [...slides.keys()].forEach(correct);
}

// Show how many crops of a slide are reviewed, and its percentage with their labels.
function correct(slide) {
  const own = crops.filter(crop => crop.dataset.slide === slide), reviewed = own.filter(crop => marks.has(crop.dataset.name)).length;
  const {row, head, predicted} = slides.get(slide);
  let text = "";
  if (reviewed && about.whole) {
    const {value, low, high} = percentage(own.map(logOdds));
    text = `${value.toFixed(1)} % (${low.toFixed(1)} to ${high.toFixed(1)})`;
  } else if (reviewed) text = "not known: the slide has several pages";
  row.querySelector(".reviewed").textContent = reviewed ? `${reviewed} of ${own.length}` : "";
  row.querySelector(".corrected").textContent = text;
  head.textContent = predicted + (reviewed ? `; ${reviewed} reviewed, corrected: ${text}` : "");
}

// Return the log-odds of a crop: infinite if its label is known.
function logOdds(crop) {
  const mark = marks.get(crop.dataset.name);
  if (mark) return mark.label === "1" ? Infinity : -Infinity;
  const p = Math.min(1 - 2 ** -23, Math.max(2 ** -23, crop.dataset.probability));
  return Math.log(p / (1 - p));
}

// As `percentage` of stages/measures/percentages.py. With N the count, and K as likely counts, the limits of Clopper and
// Pearson are where the binomial probabilities of N >= K and of N > K, averaged over K, are 2.5 and 97.5 %.
function percentage(odds) {
  const n = odds.length, chance = new Array(n + 1).fill(0), logs = [0];
  for (const [shift, weight] of about.shifts) {
    const counts = [1, ...new Array(n).fill(0)];
    odds.forEach((one, before) => {
      const share = 1 / (1 + Math.exp(-one - shift));
      for (let k = before + 1; k > 0; k--) counts[k] += share * (counts[k - 1] - counts[k]);
      counts[0] *= 1 - share;
    });
    counts.forEach((one, k) => chance[k] += weight * one);
  }
  let sum = 0;
  const atMost = chance.map(one => sum += one);
  for (let k = 1; k <= n; k++) logs.push(logs[k - 1] + Math.log(k));
  const reaches = (share, more) => atMost.reduce((total, one, k) => total + (atMost[k - more] ?? 0)
    * Math.exp(logs[n] - logs[k] - logs[n - k] + (k && k * Math.log(share)) + (n - k && (n - k) * Math.log(1 - share))), 0);
  const limit = (more, wanted) => {
    let [low, high] = [0, 1];
    for (let step = 0; step < 40; step++) {
      const middle = (low + high) / 2;
      if (reaches(middle, more) < wanted) low = middle; else high = middle;
    }
    return 100 * low;
  };
  return {value: 100 * atMost.findIndex(one => one >= 0.5) / n, low: limit(0, 0.025), high: limit(1, 0.975)};
}

// Return a CSV cell that no spreadsheet runs as a formula, like the tables of `predict`.
function cell(text) {
  if (!/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text))
    text = text.replace(/(?:^|(?<=[;\r\n]))(?=['" ]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])/g, "'");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function labels() {
  const rows = crops.filter(crop => marks.has(crop.dataset.name)).map(crop => {
    const {name, slide, pixels} = crop.dataset, {label, blind, date} = marks.get(name);
    const predicted = crop.classList.contains("positive") ? "1" : "0", marked = `${marks.size} of ${crops.length}`;
    return [name, label, about.classes[label], predicted, slide, reader, date, blind ? "1" : "0", marked, about.model, pixels];
  });
  rows.sort(([a], [b]) => a < b ? -1 : 1);
  rows.unshift(["path", "label", "class", "predicted", "slide", "reader", "date", "blind", "marked", "model", "pixels_sha256"]);
  return rows.map(row => row.map(cell).join(",") + "\n").join("");
}

byId("save").onclick = () => {
  if (!byId("reader").reportValidity()) return;
  const page = decodeURIComponent(location.pathname).split("/").pop().replace(/\.html?$/i, "");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([labels()], {type: "text/csv"}));
  link.download = `${page}-labels-${reader}.csv`;
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
  // The same for each reader and model.
  shuffled: (a, b) => a.dataset.pixels < b.dataset.pixels ? -1 : a.dataset.pixels > b.dataset.pixels ? 1 : 0,
};
[...crops].sort(orders.shuffled).forEach((crop, place) => crop.querySelector(".number").textContent = `crop ${place + 1}`);

function fits(crop) {
  if (isBlind()) return true;
  const {name, slide} = crop.dataset, wanted = byId("search").value.trim().toLowerCase();
  return (!byId("show").value || crop.classList.contains(byId("show").value))
    && (!byId("slide").value || byId("slide").value === "=" + slide)
    && (!wanted || `${name}\n${slide}`.toLowerCase().includes(wanted));
}

function arrange() {
  const order = isBlind() ? "shuffled" : byId("order").value, ordered = [...crops].sort((a, b) => orders[order](a, b) || text(a.dataset.name, b.dataset.name));
  for (const crop of crops) crop.hidden = !fits(crop);
  const pieces = [];
  let slide = null;
  for (const crop of ordered) {
    if (order === "slide" && !crop.hidden && crop.dataset.slide !== slide) {
      slide = crop.dataset.slide;
      pieces.push(slides.get(slide).head);
    }
    pieces.push(crop);
  }
  list.replaceChildren(...pieces);
  list.classList.toggle("shuffled", isBlind());
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
  showMark(active);
  see([active]);
  dialog.classList.toggle("hides", hides(active));
  square.alt = active.querySelector("img.square").alt;
  dialog.querySelector("figcaption").textContent = square.alt;
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

function blindOn(on) {
  document.documentElement.classList.toggle("blind", on);
  byId("hide").setAttribute("aria-pressed", on);
  heatOn(false);
  showAll();
  arrange();
  // Observing again reports which crops are on the screen now.
  watch.disconnect();
  for (const crop of crops) watch.observe(crop);
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
  if (/^h$/i.test(event.key)) return isBlind() || heatOn(!document.body.classList.contains("heat-on"));
  if (!active) return;
  // Before anything has the focus, an arrow leads to the first crop.
  if (event.target === document.body && !dialog.open && /^(Arrow|Enter$)/.test(event.key)) {
    event.preventDefault();
    return focusOn(active);
  }
  if (!(dialog.open || event.target.closest(".crop"))) return;
  if (dialog.open && /^[-+=]$/.test(event.key)) zoomBy(event.key === "-" ? 1 / 1.5 : 1.5);
  else if (/^(Arrow|Home$|End$)/.test(event.key)) walk(event.key);
  else if (event.key === "0" || event.key === "1") marks.get(active.dataset.name)?.label === event.key || mark(active, event.key);
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
// The address says whether the reading is blind, so that a reload shows nothing else.
byId("hide").onclick = () => location.replace(isBlind() ? "#" : "#blind");
addEventListener("hashchange", () => blindOn(location.hash === "#blind"));
// Labels without initials become those of the reader who enters them.
byId("reader").onchange = () => {
  const [more, known] = reader ? [new Map(), displayed] : [marks, new Set([...seen, ...displayed])];
  if (!reader) readers.delete("");
  if (!reader) try { localStorage.removeItem(`${about.key} `); } catch { kept = false; }
  byId("reader").value = byId("reader").value.trim();
  load(byId("reader").value);
  // What this reader had seen before is not blind.
  more.forEach((one, name) => marks.set(name, {...one, blind: one.blind && !seen.has(name)}));
  known.forEach(name => seen.add(name));
  keep();
  blindOn(isBlind());
};
document.querySelector(".filters").open = !matchMedia("(max-width: 600px)").matches;
let last = "";
try { last = localStorage.getItem("glomeruli-reader") || ""; } catch { kept = false; }
byId("reader").value = last;
load(last);
if (!kept) keep();
blindOn(isBlind());
