"use strict";
// Sort by data-key: numbers by value, text by the reader's alphabet; empty keys stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      for (const other of headings) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const body = table.tBodies[0];
      const key = (row) => row.cells[column].dataset.key;
      const isNumeric = [...body.rows].every((row) => key(row) === "" || Number.isFinite(Number(key(row))));
      const compare = (a, b) => {
        if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
        const order = isNumeric ? key(a) - key(b) : key(a).localeCompare(key(b));
        return descending ? -order : order;
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}
