// What the scripts of all chart pages share: what the page carries packed, numbers, colours, axes.

const PREFIXES = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]];
const SCALED_UNITS = new Set(["s", "J", "W", "B", "Hz"]);
const DARK = matchMedia("(prefers-color-scheme: dark)");
const CONFIG = {
  displaylogo: false, responsive: true, showSendToCloud: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  toImageButtonOptions: { format: "svg", scale: 1 },
};

const byId = (id) => document.getElementById(id);

// Text that the page carries as gzip in base64.
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

const data = JSON.parse(await unpacked("chart-data"));
document.head.append(make("script", { textContent: await unpacked("plotly") }));

const WHOLE = new Intl.NumberFormat("en-US");
const PLACES = Array.from({ length: 20 }, (_, places) => new Intl.NumberFormat("en-US", {
  minimumFractionDigits: places, maximumFractionDigits: places }));

// A number with some significant digits, thousands separated.
function number(value, digits = 4) {
  if (Number.isInteger(value)) return WHOLE.format(value);
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e15) return value.toExponential(digits - 1);
  return PLACES[Math.max(0, digits - 1 - Math.floor(Math.log10(size)))].format(value);
}

// A value with its unit; seconds, joules and such with a prefix.
function quantity(value, unit, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (!SCALED_UNITS.has(unit) || value === 0) {
    return `${number(value, digits)} ${unit}`.trim();
  }
  const [factor, prefix] = PREFIXES.find(([each]) => Math.abs(value) >= each) ?? PREFIXES.at(-1);
  return `${number(value / factor, digits)} ${prefix}${unit}`;
}

// An element with properties and children.
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// The page's colours as they are now.
function theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    card: colour("card"), ink: colour("ink"), soft: colour("soft"), line: colour("line"),
    accent: colour("accent"), faint: colour("faint"),
    series: Array.from({ length: 9 }, (_, place) => colour(`series-${place + 1}`)),
  };
}

const seriesColour = (colours, place) => colours.series[place % colours.series.length];

function axis(colours, title, more = {}) {
  return {
    title: { text: title, standoff: 8 }, gridcolor: colours.line, linecolor: colours.line,
    zerolinecolor: colours.line, tickcolor: colours.line, automargin: true, ...more,
  };
}

// An axis of a metric: in base units with SI prefixes at the ticks.
function metricAxis(colours, name, logarithmic) {
  const metric = data.metrics[name];
  const scaled = SCALED_UNITS.has(metric.unit);
  const title = metric.unit && !scaled ? `${metric.label}, ${metric.unit}` : metric.label;
  return axis(colours, title, {
    type: logarithmic ? "log" : "linear", ticksuffix: scaled ? metric.unit : "",
    tickformat: scaled ? "~s" : ",~r", rangemode: "nonnegative",
  });
}

function layout(colours, more) {
  return {
    paper_bgcolor: colours.card, plot_bgcolor: colours.card, hovermode: "closest",
    font: { family: "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", size: 13,
      color: colours.ink },
    margin: { l: 60, r: 16, t: 36, b: 50 },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 },
      bgcolor: "rgba(0,0,0,0)" },
    hoverlabel: { bgcolor: colours.card, bordercolor: colours.soft, align: "left",
      font: { color: colours.ink, size: 12.5 } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colours.soft, activecolor: colours.ink },
    ...more,
  };
}

// Whether values want a logarithmic axis: all positive, over more than a decade.
function spread(values) {
  const there = values.filter((value) => value !== null);
  if (!there.length) return false;
  const low = there.reduce((a, b) => Math.min(a, b));
  const high = there.reduce((a, b) => Math.max(a, b));
  return low > 0 && high / low > 10;
}

// Draw a chart. Its box has a name and tables have the numbers, so screen readers are spared the
// loose texts of the drawing; its buttons stay.
async function draw(id, traces, looks) {
  const box = byId(id);
  await Plotly.react(box, traces, looks, CONFIG);
  for (const drawing of box.querySelectorAll(".main-svg")) drawing.ariaHidden = "true";
}

function hasWebGL() {
  const context = document.createElement("canvas").getContext("webgl");
  context?.getExtension("WEBGL_lose_context")?.loseContext();
  return context !== null;
}
