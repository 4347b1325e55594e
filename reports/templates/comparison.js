// The page of studies side by side: their fronts in one chart.

const SYMBOLS = ["circle", "diamond", "triangle-up", "square", "triangle-down", "star", "cross"];

function drawFronts() {
  const colours = theme();
  const [x, y] = ["x", "y"].map((end) => byId(`${end}-metric`).value);
  const traces = data.studies.map((study, place) => ({
    type: "scatter", mode: "markers", name: study.name, x: study.columns[x], y: study.columns[y],
    text: study.points.map((point, row) => `<b>${study.name}, ${point}</b><br>${
      [x, y].map((name) => `${data.metrics[name].label}: ${quantity(study.columns[name][row],
        data.metrics[name].unit)}`).join("<br>")}<br>${study.text[row]}`),
    hovertemplate: "%{text}<extra></extra>",
    marker: { size: 10, color: seriesColour(colours, place), symbol: SYMBOLS[place % SYMBOLS.length],
      line: { color: colours.card, width: 1 } },
  }));
  return draw("front-chart", traces, layout(colours, {
    xaxis: metricAxis(colours, x, byId("x-log").checked),
    yaxis: metricAxis(colours, y, byId("y-log").checked) }));
}

function pickLogarithm(end) {
  const name = byId(`${end}-metric`).value;
  byId(`${end}-log`).checked = spread(data.studies.flatMap((study) => study.columns[name]));
}

for (const end of ["x", "y"]) {
  pickLogarithm(end);
  byId(`${end}-metric`).addEventListener("change", () => { pickLogarithm(end); drawFronts(); });
  byId(`${end}-log`).addEventListener("change", drawFronts);
}
DARK.addEventListener("change", drawFronts);
await drawFronts();
document.documentElement.dataset.ready = "yes";
