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
      if (column === 0) {
        return -sign * one.cells[0].textContent.localeCompare(other.cells[0].textContent, undefined, { numeric: true });
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
  addEventListener("hashchange", openTarget);
  openTarget();
});
