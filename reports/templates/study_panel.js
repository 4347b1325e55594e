// The selected design's panel, and what ties the study page's controls together.

// Losses are measured for some designs and predicted for others.
function tagOf(name, row) {
  const own = data.accuracy.metrics.includes(name) && data.accuracy.values[data.accuracy.codes[row]];
  return own || data.metrics[name].tag;
}

function tableRow(label, value, tag) {
  const cells = [make("th", { scope: "row", textContent: label }),
    make("td", { className: "n", textContent: value })];
  if (tag) cells.push(make("td", {}, make("span", { className: `tag ${tag}`, textContent: tag })));
  return make("tr", {}, ...cells);
}

// Show a point: its panel, its details where the study has them, its mark in the charts.
function select(row) {
  selected = row;
  fillPanel(row);
  return drawRows();
}

function fillPanel(row) {
  const id = data.id[row];
  const state = data.front[row] ? "on the front" : stateOf(row);
  byId("panel-title").textContent = nameOf(row);
  byId("panel-state").textContent = state;
  byId("panel-state").className = stateOf(row) === "feasible" ? "good" : "bad";
  byId("panel-reason").textContent = data.reason.values[data.reason.codes[row]];
  byId("panel-bounds").textContent = ["prefill", "decode"]
    .map((phase) => `${phase} bound by ${boundOf(phase, row) ?? "–"}`).join(", ");
  byId("panel-parameters").replaceChildren(...data.parameters.map((each) =>
    tableRow(each.label, said(valueOf(each, row)), null)));
  byId("panel-metrics").replaceChildren(...Object.entries(data.metrics).map(([name, metric]) =>
    tableRow(metric.label, quantity(data.columns[name][row], metric.unit), tagOf(name, row))));
  for (const detail of document.querySelectorAll(".detail")) {
    detail.hidden = detail.id !== `detail-${id}`;
  }
  byId("no-detail").hidden = byId(`detail-${id}`) !== null;
  for (const radio of document.querySelectorAll("input[name=design]")) {
    radio.checked = Number(radio.value) === id;
  }
  byId("point").value = id;
  byId("status").textContent = `${nameOf(row)} selected, ${state}: ${[...goals.keys()].map((name) =>
    `${data.metrics[name].label} ${quantity(data.columns[name][row], data.metrics[name].unit)}`)
    .join(", ")}`;
}

// Redraw what depends on the rows that are shown, without the parallel coordinates.
function drawRows() {
  const rows = brushed(filtered());
  const front = rows.filter((row) => data.front[row]).length;
  byId("shown").textContent = `${number(rows.length)} of ${number(count)} points shown, ${
    number(front)} of them on the front`;
  drawMap(rows);
  return drawFront(rows);
}

async function drawAll() {
  await drawRows();
  drawReferences();
  drawConfirmations();
  drawParallel(filtered());
}

// Arrow keys step through the points that the chart shows, from left to right.
function step(event) {
  const moves = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
  if (!(event.key in moves)) return;
  event.preventDefault();
  const xs = data.columns[byId("x-metric").value];
  const order = brushed(filtered()).filter((row) => xs[row] !== null
    && (!byId("keys-front").checked || data.front[row])).sort((a, b) => xs[a] - xs[b] || a - b);
  if (!order.length) return;
  const place = order.indexOf(selected) + moves[event.key];
  select(order[Math.min(Math.max(place, 0), order.length - 1)]);
}

async function copy(button) {
  const code = byId(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(code.textContent);
    byId("status").textContent = "copied";
    button.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(code);
    button.textContent = "press Ctrl+C";
  }
  setTimeout(() => { button.textContent = "copy"; }, 2000);
}

function pickLogarithm(end) {
  byId(`${end}-log`).checked = spread(data.columns[byId(`${end}-metric`).value]);
}

function resetFilters() {
  byId("filters").reset();
  brushes = {};
  drawAll();
}

function start() {
  document.documentElement.classList.toggle("no-webgl", !WEBGL);
  for (const end of ["x", "y"]) {
    pickLogarithm(end);
    byId(`${end}-metric`).addEventListener("change", () => { pickLogarithm(end); drawRows(); });
    byId(`${end}-log`).addEventListener("change", drawRows);
  }
  byId("colour").addEventListener("change", drawRows);
  let waiting = 0;
  byId("filters").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(drawAll, 150);
  });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("reset").addEventListener("click", resetFilters);
  byId("reference-metric")?.addEventListener("change", drawReferences);
  for (const control of document.querySelectorAll(".map-controls select")) {
    control.addEventListener("change", drawRows);
  }
  for (const radio of document.querySelectorAll("input[name=design]")) {
    radio.addEventListener("change", () => select(rowOf.get(Number(radio.value))));
  }
  for (const button of document.querySelectorAll("button[data-select]")) {
    button.addEventListener("click", () => select(rowOf.get(Number(button.dataset.select))));
  }
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", () => copy(button));
  }
  byId("point").addEventListener("change", (event) => {
    const row = rowOf.get(Number(event.target.value));
    if (row !== undefined) select(row);
  });
  byId("front-chart").addEventListener("keydown", step);
  DARK.addEventListener("change", drawAll);
  const first = document.querySelector("input[name=design]");
  if (first) {
    selected = rowOf.get(Number(first.value));
    fillPanel(selected);
  }
  drawAll().then(() => {
    byId("front-chart").on("plotly_click", (event) => {
      const row = event.points[0].customdata;
      if (Number.isInteger(row)) select(row);
    });
    if (WEBGL) byId("parallel-chart").on("plotly_restyle", readBrushes);
    byId("rtl-chart")?.on("plotly_click", (event) => select(event.points[0].customdata));
    for (const button of document.querySelectorAll("button:disabled")) button.disabled = false;
    document.documentElement.dataset.ready = "yes";
  });
}

start();
