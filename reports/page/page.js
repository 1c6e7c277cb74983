// Sorts a table by the column whose head is clicked; again: the other way round.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.tabIndex = 0;
    head.title = "sort";
    const sort = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const numeric = head.classList.contains("r");
      const value = (row) => row.cells[column]?.dataset.key ?? row.cells[column]?.innerText ?? "";
      const number = (row) => parseFloat(value(row).replace(/,/g, "").replace("\u2212", "-"));
      const compare = (a, b) => {
        if (!numeric) return (up ? 1 : -1) * value(a).localeCompare(value(b));
        const [x, y] = [number(a), number(b)];
        return isNaN(x) ? 1 : isNaN(y) ? -1 : up ? x - y : y - x;  // what has no number comes last
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
}
