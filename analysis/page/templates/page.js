"use strict";
document.documentElement.classList.add("js");

// Sorting: first click puts the best first, the second the worst, the third restores the order of the grid.
const ORDERS = { none: "descending", descending: "ascending", ascending: "none" };

function sortBy(table, column, order) {
  for (const body of table.tBodies) {
    const heading = [...body.rows].filter((row) => row.classList.contains("heading"));
    const rows = [...body.rows].filter((row) => !row.classList.contains("heading"));
    rows.forEach((row, place) => { row.dataset.place ??= place; });
    const sign = order === "descending" ? -1 : 1;
    rows.sort((one, other) => {
      const before = one.dataset.place - other.dataset.place;
      if (order === "none") return before;
      if (column === 0 || table.tHead.rows[0].cells[column].classList.contains("word")) {
        const [a, b] = [one, other].map((row) => row.cells[column].textContent);
        return -sign * a.localeCompare(b, undefined, { numeric: true }) || before;
      }
      const [a, b] = [one, other].map((row) => row.cells[column].dataset.sort);
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined) || before;
      return sign * (a - b) || before;
    });
    body.append(...heading, ...rows);
  }
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const order = ORDERS[head.getAttribute("aria-sort")];
      heads.forEach((other) => other.setAttribute("aria-sort", other === head ? order : "none"));
      sortBy(table, column, order);
    });
  });
}

// Filtering: a row is shown if it has all words. The details that it leads to follow it.
function filterRows(input) {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const table = document.getElementById(input.dataset.filter);
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]).filter((row) => !row.classList.contains("heading"));
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    const detail = table.classList.contains("listing") && row.querySelector("th a")?.hash.slice(1);
    if (detail) document.getElementById(decodeURIComponent(detail)).hidden = row.hidden;
  }
  for (const body of table.tBodies) body.hidden = [...body.rows].every((row) => row.hidden || row.classList.contains("heading"));
  const shown = rows.filter((row) => !row.hidden).length;
  const count = words.length ? `${shown} of ${rows.length} rows` : "";
  document.querySelector(`[data-count="${CSS.escape(input.dataset.filter)}"]`).textContent = count;
  document.getElementById("status").textContent = count || `all ${rows.length} rows`;
}

// Comparing: of all pairs, the one with the two chosen rows is shown, in whichever order they were chosen.
function showPair(box) {
  const [first, second] = [...box.querySelectorAll("select")].map((select) => select.value);
  let found = false;
  for (const pair of box.querySelectorAll(".pair")) {
    const rows = [pair.dataset.first, pair.dataset.second];
    pair.hidden = first === second || !rows.includes(first) || !rows.includes(second);
    pair.open = !pair.hidden;
    found ||= pair.open;
  }
  const why = first === second ? "Choose two rows." : "These rows have no common seed, or are not compared.";
  box.querySelector("[role=status]").textContent = found ? "" : why;
}

// A link to a pair chooses it.
function choosePair(pair) {
  const box = pair.closest(".compare");
  const [first, second] = box.querySelectorAll("select");
  [first.value, second.value] = [pair.dataset.first, pair.dataset.second];
  showPair(box);
}

async function copy(button) {
  const text = document.getElementById(button.dataset.copy).textContent;
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea"); // where the clipboard is not open to pages
    area.value = text;
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
    button.focus();
  }
  const label = (button.dataset.label ??= button.textContent);
  button.textContent = done ? "Copied" : "Not copied";
  document.getElementById("status").textContent = `${label}: ${done ? "copied" : "the browser refused"}`;
  setTimeout(() => { button.textContent = label; }, 1500);
}

// A link to a closed detail opens it.
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  const pair = target.closest(".pair");
  if (pair) choosePair(pair);
  if (target.hidden) for (const input of document.querySelectorAll("[data-filter]")) { // a filter must not break links
    if (input.value) { input.value = ""; filterRows(input); }
  }
  for (let place = target; place; place = place.parentElement) if (place.tagName === "DETAILS") place.open = true;
  target.scrollIntoView();
  target.querySelector("summary")?.focus({ preventScroll: true });
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  document.querySelectorAll("button[data-copy]").forEach((button) => {
    button.style.minWidth = `${button.offsetWidth}px`;
    button.addEventListener("click", () => copy(button));
  });
  document.querySelectorAll("input[data-filter]").forEach((input) => {
    input.addEventListener("input", () => filterRows(input));
    if (input.value) filterRows(input); // kept by the browser over a reload
  });
  document.querySelectorAll(".compare").forEach((box) => {
    box.addEventListener("change", () => showPair(box));
    showPair(box);
  });
  addEventListener("hashchange", openTarget);
  openTarget();
});
