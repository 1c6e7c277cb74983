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
  // A long table can be filtered: rows that contain every word stay.
  if (table.tBodies[0].rows.length > 7) {
    const field = Object.assign(document.createElement("input"), {
      className: "filter", type: "search", placeholder: "filter rows", ariaLabel: "filter rows",
    });
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/);
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
    table.closest(".scroll").before(field);
  }
}

// A link into a folded part opens it.
const open = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", open);
open();
