// Tables sort by a click or Enter on a column's heading: numbers by their first number, other cells as text.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const number = (text) => {
    const found = text.replace(/,/g, "").match(/-?\d+(\.\d+)?/);
    return found ? parseFloat(found[0]) : NaN;
  };
  const sort = (table, column, rising) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row, place) => ({ row, place, text: row.cells[column].textContent.trim() }));
    const numeric = rows.filter((entry) => /^[\d-]/.test(entry.text)).length * 2 > rows.length;
    rows.sort((a, b) => {
      let order;
      if (numeric) {
        const [x, y] = [number(a.text), number(b.text)];
        if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1; // what has no number stays at the end
        order = isNaN(x) ? 0 : x - y;
      } else {
        order = a.text.localeCompare(b.text, "en", { numeric: true });
      }
      return (rising ? order : -order) || a.place - b.place;
    });
    rows.forEach((entry) => body.append(entry.row));
  };
  for (const table of document.querySelectorAll("table.docutils")) {
    for (const cell of table.querySelectorAll("td")) cell.classList.toggle("long", cell.textContent.length > 120);
    if (!table.tHead || table.tBodies[0].rows.length < 4) continue;
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      const button = document.createElement("button");
      button.append(...cell.childNodes);
      button.className = "sort";
      button.title = "sort by this column";
      cell.append(button);
      button.addEventListener("click", () => {
        const rising = cell.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        cell.setAttribute("aria-sort", rising ? "ascending" : "descending");
        sort(table, column, rising);
      });
    });
  }
});
