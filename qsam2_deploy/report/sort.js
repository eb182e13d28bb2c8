// Sorts a table by the column whose heading is clicked; cells without a value go last.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement;
    const body = heading.closest("table").tBodies[0];
    const text = heading.classList.contains("text");
    const first = text ? "ascending" : "descending";
    const other = text ? "descending" : "ascending";
    const order = heading.getAttribute("aria-sort") === first ? other : first;
    for (const each of heading.parentElement.cells) each.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const key = (row) => row.cells[heading.cellIndex].dataset.value ?? "";
    const compare = (a, b) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      return sign * (text ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
    };
    body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
  });
}
