// Draws the plots of the report by plots.js, which stands above in the page.
const place = document.querySelector(".plots");
for (const plot of JSON.parse(document.getElementById("plots").textContent)) {
  place.append(createFigure(plot, 250).element);
}
