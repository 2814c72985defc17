"use strict";
// Tables sort by a click on a heading and filter by what is typed; rules are copied by a button.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.classList.contains("number") ? Number.parseFloat(cell.dataset.sort ?? "NaN") : cell.textContent.trim();
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") {
      // Cells without a number come last in both directions.
      return Number.isNaN(a) - Number.isNaN(b) || a - b;
    }
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
    const before = heading.getAttribute("aria-sort");
    const next = before === "ascending" ? "descending" : before === "descending" ? null : "ascending";
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    let rows = original;
    if (next) {
      heading.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      const known = original.filter((row) => !Number.isNaN(key(row, column)));
      const unknown = original.filter((row) => Number.isNaN(key(row, column)));
      rows = [...known.sort((a, b) => sign * compare(key(a, column), key(b, column))), ...unknown];
    }
    body.append(...rows);
  }));
}
for (const input of document.querySelectorAll("[data-filter]")) {
  const table = document.getElementById(input.dataset.filter);
  const count = document.querySelector(`[data-count="${input.dataset.filter}"]`);
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${table.tBodies[0].rows.length} rows`;
  });
}
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(button.previousElementSibling);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
