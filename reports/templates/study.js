// The study page: filter, charts and the panel of the selected design.

const WEBGL = hasWebGL();
const MOST_LINES = 1000;
const count = data.id.length;
const rowOf = new Map(data.id.map((id, row) => [id, row]));
const goals = new Map(data.objectives.map((each) => [each.name, each.goal]));
const parameters = new Map(data.parameters.map((each) => [each.name, each]));
const varied = data.parameters.filter((each) => new Set(each.codes).size > 1);
const stateOf = (row) => data.state.values[data.state.codes[row]];
const boundOf = (phase, row) => data.bound[phase].values[data.bound[phase].codes[row]];
const valueOf = (parameter, row) => parameter.values[parameter.codes[row]];
const nameOf = (row) => data.designs[data.id[row]] ?? `design ${data.id[row]}`;
const better = (name, a, b) => (goals.get(name) === "maximize" ? a > b : a < b);
const said = (value) => (value === true ? "yes" : value === false ? "no" : value === null ? "none"
  : typeof value === "object" ? JSON.stringify(value) : String(value));

let selected = null;
let brushes = {};

// ---- filter

// Rows that pass the form's filters; those brushed away in the parallel coordinates too.
function filtered() {
  const tests = [];
  for (const set of document.querySelectorAll("#filters fieldset[data-choice]")) {
    const boxes = [...set.querySelectorAll("input")];
    if (boxes.every((box) => box.checked)) continue;
    const kept = new Set(boxes.filter((box) => box.checked).map((box) => Number(box.value)));
    const codes = set.dataset.choice === "state" ? data.state.codes
      : parameters.get(set.dataset.choice).codes;
    tests.push((row) => kept.has(codes[row]));
  }
  for (const input of document.querySelectorAll("#filters input[data-end]")) {
    if (input.value === "" || !input.validity.valid) continue;
    const column = data.columns[input.dataset.metric];
    const end = Number(input.value) * data.metrics[input.dataset.metric].factor;
    const [low, high] = input.dataset.end === "low" ? [end, Infinity] : [-Infinity, end];
    tests.push((row) => column[row] !== null && column[row] >= low && column[row] <= high);
  }
  const rows = [];
  for (let row = 0; row < count; row++) if (tests.every((test) => test(row))) rows.push(row);
  return rows;
}

// Rows that pass the filters and lie within every brush.
function brushed(rows) {
  const dimensions = parallelDimensions();
  const ends = Object.entries(brushes).filter(([label]) => dimensions.has(label));
  return rows.filter((row) => ends.every(([label, range]) => {
    const value = dimensions.get(label).at(row);
    const ranges = Array.isArray(range[0]) ? range : [range];
    return stateOf(row) === "feasible" && ranges.some(([a, b]) => value >= a && value <= b);
  }));
}

// ---- Pareto front

function hoverText(row, shown) {
  const lines = [`<b>${nameOf(row)}</b>${data.front[row] ? ", on the front" : ""}`];
  for (const name of new Set([...shown, ...goals.keys()])) {
    lines.push(`${data.metrics[name].label}: ${quantity(data.columns[name][row],
      data.metrics[name].unit)}`);
  }
  lines.push(`bound in decode: ${boundOf("decode", row) ?? "–"}`, "",
    ...varied.map((each) => `${each.label}: ${said(valueOf(each, row))}`));
  return lines.join("<br>");
}

// Groups of rows with a name and a look, by what colours stand for.
function groupsOf(rows, mode, colours) {
  const group = (name, test, marker) => ({ name, rows: rows.filter(test), marker });
  const dot = (colour) => ({ color: colour, size: 6, opacity: 0.75 });
  if (mode === "state") {
    return [
      group("breaks a constraint", (row) => stateOf(row) === "infeasible",
        { color: colours.faint, size: 5, symbol: "x-thin", line: { color: colours.faint, width: 1 },
          opacity: 0.8 }),
      group("feasible", (row) => stateOf(row) === "feasible" && !data.front[row],
        dot(colours.series[0])),
      group("on the front", (row) => data.front[row],
        { color: colours.accent, size: 10, symbol: "diamond",
          line: { color: colours.card, width: 1 } }),
    ];
  }
  const [kind, name] = mode.split(":");
  if (kind === "bound") {
    return data.bounds.map((bound, place) => group(bound, (row) => boundOf(name, row) === bound,
      dot(seriesColour(colours, place))));
  }
  const parameter = parameters.get(name);
  return parameter.values.map((value, code) => group(said(value),
    (row) => parameter.codes[row] === code, dot(seriesColour(colours, code))));
}

// Of points in two objectives, those that no other beats, in order.
function staircase(rows, x, y) {
  if (!goals.has(x) || !goals.has(y) || x === y) return [];
  const [xs, ys] = [data.columns[x], data.columns[y]];
  const order = rows.filter((row) => stateOf(row) === "feasible" && xs[row] !== null
    && ys[row] !== null).sort((a, b) => (xs[a] === xs[b]
    ? (better(y, ys[a], ys[b]) ? -1 : 1) : (better(x, xs[a], xs[b]) ? -1 : 1)));
  const steps = [];
  for (const row of order) {
    if (!steps.length || better(y, ys[row], ys[steps.at(-1)])) steps.push(row);
  }
  return steps;
}

function drawFront(rows) {
  const colours = theme();
  const [x, y] = [byId("x-metric").value, byId("y-metric").value];
  const [xs, ys] = [data.columns[x], data.columns[y]];
  const plotted = rows.filter((row) => xs[row] !== null && ys[row] !== null);
  const type = WEBGL && plotted.length > 1500 ? "scattergl" : "scatter";
  const place = (of) => ({ x: of.map((row) => xs[row]), y: of.map((row) => ys[row]) });
  const traces = groupsOf(plotted, byId("colour").value, colours).filter((each) => each.rows.length)
    .map((each) => ({
      type, mode: "markers", name: each.name, marker: each.marker, ...place(each.rows),
      customdata: each.rows, text: each.rows.map((row) => hoverText(row, [x, y])),
      hovertemplate: "%{text}<extra></extra>",
    }));
  const steps = staircase(plotted, x, y);
  if (steps.length > 1) {
    traces.unshift({ type: "scatter", mode: "lines", ...place(steps), hoverinfo: "skip",
      name: "best of these two", line: { color: colours.accent, width: 1.5, dash: "dot",
        shape: goals.get(x) === "maximize" ? "vh" : "hv" } });
  }
  const others = data.references.filter((each) => Number.isFinite(each.metrics[x])
    && Number.isFinite(each.metrics[y]));
  traces.push({ type: "scatter", mode: innerWidth > 700 ? "markers+text" : "markers", name: "GPUs and published designs",
    x: others.map((each) => each.metrics[x]), y: others.map((each) => each.metrics[y]),
    text: others.map((each) => each.name.replace(/ \(.*/, "")), textposition: "top center",
    textfont: { size: 11, color: colours.soft }, cliponaxis: false,
    hovertemplate: "<b>%{text}</b><br>x %{x:.4~s}, y %{y:.4~s}<extra></extra>",
    marker: { symbol: "star", size: 13, color: colours.ink,
      line: { color: colours.card, width: 1 } }, showlegend: others.length > 0 });
  const ring = selected !== null && xs[selected] !== null && ys[selected] !== null ? [selected] : [];
  traces.push({ type: "scatter", mode: "markers", ...place(ring), hoverinfo: "skip",
    name: ring.length ? nameOf(selected) : "selected", showlegend: ring.length > 0,
    marker: { symbol: "circle-open", size: 18, color: colours.ink, line: { width: 3 } } });
  return draw("front-chart", traces, layout(colours, {
    xaxis: metricAxis(colours, x, byId("x-log").checked),
    yaxis: metricAxis(colours, y, byId("y-log").checked),
    uirevision: [x, y, byId("x-log").checked, byId("y-log").checked].join(),
  }));
}

// ---- parallel coordinates

// A little of a step, the same for a point on every axis, so that lines do not hide each other.
const jitter = (row) => 0.16 * ((row * 0.618034) % 1 - 0.5);

// Axes by label: where a row lies on each, and its ticks. Wide ranges are shown as logarithms.
function parallelDimensions() {
  const found = new Map(varied.map((each) => [each.label, {
    at: (row) => Math.min(Math.max(each.codes[row] + jitter(row), 0), each.values.length - 1),
    more: { tickvals: each.values.map((_, code) => code), ticktext: each.values.map(said),
      range: [-0.2, each.values.length - 0.8] },
  }]));
  for (const name of goals.keys()) {
    const { label, unit } = data.metrics[name];
    const column = data.columns[name];
    const logarithmic = spread(column);
    const at = (row) => (column[row] === null ? null
      : logarithmic ? Math.log10(column[row]) : column[row]);
    const there = data.id.map((_, row) => row).filter((row) => stateOf(row) === "feasible").map(at);
    const low = there.reduce((a, b) => Math.min(a, b), Infinity);
    const high = there.reduce((a, b) => Math.max(a, b), -Infinity);
    // A brush snaps to ticks: many of them, few with a number, none with the text of another.
    const ticks = Array.from({ length: 41 }, (_, step) => low + (high - low) * step / 40);
    const text = ticks.map((tick, step) => (step % 10 ? ""
      : quantity(logarithmic ? 10 ** tick : tick, unit, 3)) + "\u200b".repeat(step));
    found.set(label, { at, more: Number.isFinite(low) && high > low
      ? { tickvals: ticks, ticktext: text, range: [low, high] } : {} });
  }
  return found;
}

function drawParallel(rows) {
  if (!WEBGL) return;
  const colours = theme();
  const first = data.columns[data.objectives[0].name];
  const all = rows.filter((row) => stateOf(row) === "feasible" && first[row] !== null);
  const nth = Math.ceil(all.length / MOST_LINES);
  const kept = all.filter((row, place) => place % nth === 0 || data.front[row]);
  byId("lines").textContent = nth > 1 ? `One line of ${nth} is drawn, and the whole front.` : "";
  const log = spread(kept.map((row) => first[row]));
  const shade = kept.map((row) => (log ? Math.log10(first[row]) : first[row]));
  const dimensions = [...parallelDimensions()].map(([label, { at, more }]) => ({
    label, values: kept.map(at), ...more,
    ...(brushes[label] ? { constraintrange: brushes[label] } : {}),
  }));
  draw("parallel-chart", [{
    type: "parcoords", dimensions, labelangle: 0, labelside: "top",
    labelfont: { size: 12, color: colours.ink }, tickfont: { size: 11, color: colours.ink },
    rangefont: { size: 1, color: colours.card },
    line: { color: shade, reversescale: goals.get(data.objectives[0].name) === "maximize",
      colorscale: [[0, colours.accent], [0.35, colours.series[0]], [1, colours.faint]] },
    unselected: { line: { color: colours.line, opacity: 0.25 } },
  }], layout(colours, { margin: { l: 100, r: 70, t: 50, b: 24 } }));
}

function readBrushes() {
  brushes = {};
  for (const each of byId("parallel-chart").data[0].dimensions) {
    if (each.constraintrange) brushes[each.label] = each.constraintrange;
  }
  drawRows();
}

// ---- what bounds the designs

function drawMap(rows) {
  const table = byId("bound-map");
  if (!table) return;
  const [across, down] = ["map-x", "map-y"].map((id) => parameters.get(byId(id).value));
  const phase = byId("map-phase").value;
  const goal = byId("map-goal").value;
  const cells = new Map();
  for (const row of rows) {
    if (stateOf(row) !== "feasible" || boundOf(phase, row) === null) continue;
    const key = `${across.codes[row]},${down.codes[row]}`;
    const cell = cells.get(key) ?? { best: row, bounds: new Map(), points: 0 };
    const value = data.columns[goal][row];
    const best = data.columns[goal][cell.best];
    if (value !== null && (best === null || better(goal, value, best))) cell.best = row;
    const bound = boundOf(phase, row);
    cell.bounds.set(bound, (cell.bounds.get(bound) ?? 0) + 1);
    cell.points += 1;
    cells.set(key, cell);
  }
  const colourOf = (bound) => `var(--series-${data.bounds.indexOf(bound) % 9 + 1})`;
  const head = make("tr", {}, make("th", { textContent: `${down.label} \\ ${across.label}` }),
    ...across.values.map((value) => make("th", { scope: "col", textContent: said(value) })));
  const body = down.values.map((value, y) => make("tr", {},
    make("th", { scope: "row", textContent: said(value) }),
    ...across.values.map((_, x) => {
      const cell = cells.get(`${x},${y}`);
      if (!cell) return make("td", { className: "soft", textContent: "none feasible" });
      const bound = boundOf(phase, cell.best);
      const strip = make("span", { className: "strip" });
      for (const [name, points] of [...cell.bounds].sort((a, b) => b[1] - a[1])) {
        const part = make("span", { title: `${name}: ${points} of ${cell.points} points` });
        part.style.cssText = `flex: ${points}; background: ${colourOf(name)}`;
        strip.append(part);
      }
      const mark = make("span", { className: "swatch" });
      mark.style.background = colourOf(bound);
      const pick = make("button", { type: "button", className: "link", textContent:
        quantity(data.columns[goal][cell.best], data.metrics[goal].unit),
        title: `select ${nameOf(cell.best)}` });
      pick.addEventListener("click", () => select(cell.best));
      return make("td", {}, make("span", { className: "bound" }, mark, bound), pick,
        make("span", { className: "soft", textContent: ` ${number(cell.points)} points` }), strip);
    })));
  table.replaceChildren(table.caption, make("thead", {}, head), make("tbody", {}, ...body));
}

// ---- references and RTL

function drawReferences() {
  const box = byId("reference-chart");
  if (!box) return;
  const colours = theme();
  const name = byId("reference-metric").value;
  const own = data.best.map((id) => ({ name: nameOf(rowOf.get(id)), kind: "this study",
    value: data.columns[name][rowOf.get(id)] }));
  const others = data.references.map((each) => ({ ...each, value: each.metrics[name] }));
  const bars = [...own, ...others].filter((each) => Number.isFinite(each.value)).reverse();
  const looks = { "this study": colours.accent, fpga: colours.series[0], gpu: colours.faint };
  box.style.height = `${110 + 30 * bars.length}px`;
  return draw("reference-chart", [{ type: "bar", orientation: "h", x: bars.map((bar) => bar.value),
    y: bars.map((bar) => bar.name), marker: { color: bars.map((bar) => looks[bar.kind]) },
    text: bars.map((bar) => quantity(bar.value, data.metrics[name].unit)), textposition: "outside",
    cliponaxis: false, hovertemplate: "%{y}: %{text}<extra></extra>" }], layout(colours, {
    xaxis: { ...metricAxis(colours, name, false), rangemode: "tozero" },
    yaxis: axis(colours, "", { gridcolor: colours.card }), showlegend: false, bargap: 0.35,
    margin: { l: 60, r: 90, t: 24, b: 50 } }));
}

function drawConfirmations() {
  const box = byId("rtl-chart");
  if (!box) return;
  const colours = theme();
  const all = data.confirmations;
  const ends = [Math.min(...all.map((each) => each.rtl_cycles)) / 2,
    Math.max(...all.map((each) => each.rtl_cycles)) * 2];
  const traces = [{ type: "scatter", mode: "lines", x: ends, y: ends, hoverinfo: "skip",
    name: "equal", line: { color: colours.soft, width: 1 } }];
  if (data.error) {
    const worst = data.error.worst_absolute_error;
    const low = ends.map((end) => end * (1 - worst));
    const high = ends.map((end) => end * (1 + worst));
    traces.unshift({ type: "scatter", mode: "lines", fill: "toself", hoverinfo: "skip",
      name: `worst measured error, ±${Number((100 * worst).toPrecision(3))} %`, line: { width: 0 },
      x: [...ends, ...ends.toReversed()], y: [...low, ...high.toReversed()],
      fillcolor: `${colours.series[0]}33` },
    { type: "scatter", mode: "lines", fill: "toself", hoverinfo: "skip", showlegend: false,
      xaxis: "x2", yaxis: "y2", line: { width: 0 }, fillcolor: `${colours.series[0]}33`,
      x: [...ends, ...ends.toReversed()],
      y: [-100 * worst, -100 * worst, 100 * worst, 100 * worst] });
  }
  ["prefill", "decode"].forEach((phase, place) => {
    const found = all.filter((each) => each.phase === phase);
    const common = { type: "scatter", mode: "markers", name: phase, legendgroup: phase,
      x: found.map((each) => each.rtl_cycles), customdata: found.map((each) => rowOf.get(each.id)),
      text: found.map((each) => `<b>${nameOf(rowOf.get(each.id))}</b><br>${each.what}<br>model ${
        number(each.model_cycles)}, RTL ${number(each.rtl_cycles)} cycles<br>error ${
        (100 * each.error).toFixed(2)} %`), hovertemplate: "%{text}<extra></extra>",
      marker: { size: 9, symbol: place ? "diamond" : "circle", color: colours.series[place],
        line: { color: colours.card, width: 1 } } };
    traces.push({ ...common, y: found.map((each) => each.model_cycles) },
      { ...common, showlegend: false, xaxis: "x2", yaxis: "y2",
        y: found.map((each) => 100 * each.error) });
  });
  const cycles = { type: "log", tickformat: "~s", dtick: 1, range: ends.map(Math.log10) };
  return draw("rtl-chart", traces, layout(colours, {
    grid: { rows: 1, columns: 2, pattern: "independent" },
    xaxis: axis(colours, "RTL cycles", cycles), yaxis: axis(colours, "model cycles", cycles),
    xaxis2: axis(colours, "RTL cycles", cycles), yaxis2: axis(colours, "error of the model, %"),
  }));
}
