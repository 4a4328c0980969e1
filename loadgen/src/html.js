// Shows the values under the pointer. The page is complete without it.
for (const svg of document.querySelectorAll("svg[data-hover]")) {
  const { unit, rows } = JSON.parse(svg.dataset.hover);
  const cursor = svg.querySelector(".cursor");
  const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
  svg.parentElement.append(tip);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * 640;
    let nearest = rows[0];
    for (const row of rows) {
      if (Math.abs(row.x - x) < Math.abs(nearest.x - x)) nearest = row;
    }
    const here = rows.filter((row) => Math.abs(row.x - nearest.x) < 0.2);
    const lines = here.map((row) => `${row.name}  ${row.value} ${unit}`);
    tip.textContent = [nearest.label, ...lines].join("\n");
    tip.hidden = false;
    const left = event.clientX - svg.parentElement.getBoundingClientRect().left;
    tip.style.left = left > box.width / 2 ? `${left - tip.offsetWidth - 12}px` : `${left + 12}px`;
    tip.style.top = "48px";
    cursor.setAttribute("x1", nearest.x);
    cursor.setAttribute("x2", nearest.x);
  });
  svg.addEventListener("pointerleave", () => {
    tip.hidden = true;
    cursor.setAttribute("x1", -9);
    cursor.setAttribute("x2", -9);
  });
}
