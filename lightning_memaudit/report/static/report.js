"use strict";
// Tables are sorted by the heading that is clicked; without scripts they stand in their own order.
(() => {
  const decimal = document.documentElement.dataset.decimal;
  const number = (text) => {
    const plain = text.replaceAll("−", "-").replaceAll(decimal, ".").replace(/^[<≥ %]+/, "");
    return /^[+-]?\d/.test(plain) ? parseFloat(plain) : NaN;
  };
  const compare = (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
    return a.localeCompare(b, document.documentElement.dataset.locale);
  };
  const sort = (heading) => {
    const body = heading.closest("table").tBodies[0];
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const column = heading.cellIndex;
    const text = (row) => row.cells[column].textContent.trim();
    const known = (row) => text(row) !== "–" && text(row) !== "";
    const rows = [...body.rows].sort((a, b) => {
      if (known(a) !== known(b)) return known(a) ? -1 : 1;
      return (down ? -1 : 1) * compare(text(a), text(b));
    });
    body.append(...rows);
  };
  for (const table of document.querySelectorAll("main table")) {
    if (!table.tHead || table.tBodies[0].rows.length < 3) continue;
    for (const heading of table.tHead.querySelectorAll("th")) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(heading));
      heading.append(button);
    }
  }
})();
