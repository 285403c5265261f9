// Without this script the page shows the same; with it, tables sort and figures enlarge.
"use strict";

// A number with its sign, as in "−0.03 ± 0.21" or "1 %"; text that is none sorts as text.
function valueOf(text) {
  const found = text.trim().replace("−", "-").match(/^[≤≥<>]?\s*([-+]?\d+(\.\d+)?)/);
  return found ? Number(found[1]) : text.trim().toLowerCase();
}

// Cells that stand for several rows are repeated, so that each row can go anywhere.
function unmerge(body) {
  const rows = [...body.rows];
  rows.forEach((row, i) => [...row.cells].forEach((cell) => {
    const span = cell.rowSpan;
    if (span < 2) return;
    const place = cell.cellIndex;
    cell.rowSpan = 1;
    for (let k = 1; k < span; k++) {
      const copy = cell.cloneNode(true);
      copy.scope = "row";
      rows[i + k].insertBefore(copy, rows[i + k].cells[place] ?? null);
    }
  }));
}

function compare(a, b) {
  if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
  return typeof a === "number" ? -1 : 1;
}

document.querySelectorAll("table.results").forEach((table) => {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = table.tBodies[0];
      unmerge(body);
      const keyed = [...body.rows].map((row) => {
        const cell = row.cells[place];
        return [valueOf(cell.firstChild?.textContent ?? ""), row];
      });
      // What has no value stays at the end, whichever way the rest is sorted.
      const missing = (key) => key === "" || key === "–";
      keyed.sort(([a], [b]) => missing(a) - missing(b) || (down ? compare(b, a) : compare(a, b)));
      body.append(...keyed.map(([, row]) => row));
    });
  });
});

const large = document.createElement("dialog");
large.setAttribute("aria-label", "Enlarged figure");
large.innerHTML = "<form method='dialog'><button>Close</button></form><img alt=''><p></p>";
document.body.append(large);
large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
document.querySelectorAll("figure > img").forEach((image) => {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "enlarge";
  button.title = "Enlarge";
  image.replaceWith(button);
  button.append(image);
  button.addEventListener("click", () => {
    const shown = large.querySelector("img");
    shown.src = image.src;
    shown.alt = image.alt;
    large.querySelector("p").textContent = image.alt;
    large.showModal();
  });
});
