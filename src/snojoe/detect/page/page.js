
"use strict";
// Without it the page is whole, in the order of the call.
const form = document.forms[0];
const list = document.getElementById("images");
const cards = [...list.children].map((item, place) => ({
  item,
  place,
  decision: item.className,
  p: Number(item.dataset.p ?? NaN),
  score: Number(item.dataset.score ?? NaN),
  labels: item.dataset.labels ? item.dataset.labels.split(" ") : [],
  name: item.dataset.name,
}));
const labels = new Map([...form.elements.label.options].map(each => [each.value, each.text]));
const words = new Intl.Collator(undefined, { numeric: true });
const ranks = { out: 0, error: 1, in: 2 };
// What could not be read has no p and no label, and comes last.
const last = value => (Number.isNaN(value) ? Infinity : value);
const first = card => (card.labels.length ? labels.get(card.labels[0]) : "\uffff");
const orders = {
  "": () => 0,
  p: (a, b) => last(a.score) - last(b.score) || 0,
  "-p": (a, b) => last(-a.score) - last(-b.score) || 0,
  decision: (a, b) => ranks[a.decision] - ranks[b.decision] || orders.p(a, b),
  label: (a, b) => words.compare(first(a), first(b)),
  name: (a, b) => words.compare(a.name, b.name),
};
let sorted = "";

function apply() {
  const { decision, label, from, to, name, sort } = form.elements;
  const [low, high] = [from.value, to.value].map(text => (text === "" ? null : Number(text)));
  const part = name.value.toLowerCase();
  let shown = 0;
  for (const card of cards) {
    const wanted =
      (decision.value === "all" || card.decision === decision.value) &&
      (!label.value || (label.value === "none"
        ? card.decision !== "error" && !card.labels.length
        : card.labels.includes(label.value))) &&
      (low === null || card.p >= low) &&
      (high === null || card.p <= high) &&
      card.name.toLowerCase().includes(part);
    card.item.hidden = !wanted;
    shown += wanted;
  }
  if (sort.value !== sorted) {
    sorted = sort.value;
    const order = orders[sorted];
    const { parentElement } = list;
    list.remove(); // in the document each that moves costs as much as there are
    for (const { item } of [...cards].sort((a, b) => order(a, b) || a.place - b.place)) {
      list.append(item);
    }
    parentElement.append(list);
  }
  form.querySelector("output").value = `${shown.toLocaleString("en")} shown`;
}

// A browser takes milliseconds for each image that it loads. In noscript they are text until they
// come into sight.
function load(item) {
  const waiting = item.querySelector("noscript");
  if (waiting) waiting.parentElement.innerHTML = waiting.textContent;
}
const sight = new IntersectionObserver(entries => {
  for (const { target } of entries.filter(entry => entry.isIntersecting)) {
    load(target);
    sight.unobserve(target);
  }
}, { rootMargin: "100%" });
for (const { item } of cards) sight.observe(item);
addEventListener("beforeprint", () => cards.forEach(({ item }) => item.hidden || load(item)));

form.hidden = false;
form.addEventListener("input", apply);
form.addEventListener("submit", event => event.preventDefault());
apply(); // a browser that goes back fills in what was chosen
