// What all charts share: colours, layout, labels, the tip under the pointer. Plotly reads its texts as HTML, so every
// text of the data goes through `safe` on its way there.

// Okabe and Ito's palette, which people with any kind of colour vision can tell apart; shapes say the same once more.
const PALETTE = {
  light: ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"],
  dark: ["#56B4E9", "#E69F00", "#2FC59B", "#CC79A7", "#F0E442", "#D55E00", "#FFFFFF"],
};
const DASHES = ["dash", "dot", "dashdot", "longdash", "longdashdot", "solid"];
const charts = new Set();

function safe(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function short(text, length) {
  return text.length > length ? text.slice(0, length - 1) + "…" : text;
}

function colour(index) {
  const all = PALETTE[state.theme];
  return all[index % all.length];
}

// A colour that is half seen through.
function faded(hex) {
  return hex + "70";
}

function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}

function axis(more) {
  const { title, ...rest } = more || {};
  return {
    gridcolor: ink("line"), zeroline: false, linecolor: ink("line"), tickcolor: ink("line"), automargin: true,
    title: title ? { text: safe(short(title, 48)), standoff: 8, font: { size: 13 } } : undefined, ...rest,
  };
}

const LEGEND = { orientation: "h", x: 0, yref: "container", y: 0, yanchor: "bottom", font: { size: 12 }, traceorder: "normal" };

function layout(more) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: ink("ink") },
    margin: { l: 12, r: 12, t: 30, b: 8 }, hovermode: "closest", dragmode: "zoom", legend: LEGEND,
    modebar: { bgcolor: "rgba(0,0,0,0)", color: ink("faint"), activecolor: ink("accent") },
    hoverlabel: { bgcolor: ink("card"), bordercolor: ink("line"), font: { color: ink("ink") } },
    ...more,
  };
}

const CONFIG = {
  responsive: true, displaylogo: false, displayModeBar: "hover", doubleClick: "reset+autosize",
  // Nothing here may leave the page: no button that sends a chart anywhere.
  modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]], toImageButtonOptions: { format: "svg", filename: "evomerge" },
};
const CONFIG_3D = { ...CONFIG, modeBarButtons: [["toImage"], ["orbitRotation", "zoom3d", "pan3d", "resetCameraDefault3d"]] };

// An empty place for a chart with a name for those who do not see it.
function chart(label, height) {
  const made = element("div", { class: "chart", role: "img", "aria-label": label, style: { height: `min(${height}px, max(105vw, 300px))` } });
  charts.add(made);
  return made;
}

// Charts are drawn when they come near the window: a report has many, and the first is what is looked at.
const watcher = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => reveal(entry.target)), { rootMargin: "300px" });

function draw(target, traces, plan) {
  target.content = [traces, plan];
  if (target.revealed) paint(target);
  else watcher.observe(target);
}

function reveal(target) {
  watcher.unobserve(target);
  target.revealed = true;
  if (target.content) paint(target);
}

function paint(target) {
  const [traces, plan] = target.content, solid = plan.scene !== undefined;
  target.content = null;
  if (target.drawn && target.solid === solid) {
    Plotly.react(target, traces, plan, solid ? CONFIG_3D : CONFIG);
    return;
  }
  if (target.drawn) Plotly.purge(target);
  Object.assign(target, { drawn: true, solid });
  Plotly.newPlot(target, traces, plan, solid ? CONFIG_3D : CONFIG);
  // A fresh plot forgets its listeners.
  (target.wired || []).forEach(([event, listener]) => target.on(event, listener));
}

// Change the marks over a chart, and nothing else of it.
function mark(target, shapes) {
  if (target.content) target.content[1].shapes = shapes;
  else if (target.drawn) Plotly.relayout(target, { shapes });
}

function ringAt(x, y, radius) {
  return { type: "circle", xsizemode: "pixel", ysizemode: "pixel", xanchor: x, yanchor: y, x0: -radius, x1: radius, y0: -radius, y1: radius, line: { color: ink("ink"), width: 2.5 } };
}

function wire(target, event, listener) {
  target.wired = [...(target.wired || []), [event, listener]];
  if (target.drawn) target.on(event, listener);
}

// Let go of charts that are no longer on the page.
function forgetCharts() {
  charts.forEach((target) => {
    if (target.isConnected) return;
    if (target.drawn) Plotly.purge(target);
    watcher.unobserve(target);
    charts.delete(target);
  });
}

// Give all charts a width in pixels, or with null let them fill their places again.
function resizeCharts(width) {
  charts.forEach((target) => {
    if (!target.revealed && width !== null) reveal(target);
    if (target.drawn) Plotly.relayout(target, width === null ? { autosize: true, width: undefined } : { width });
  });
}

// Show a tip of the reader's trial where the pointer is; `find` turns a Plotly point into {run, row} or null.
function tips(target, find) {
  const tip = document.getElementById("tip");
  wire(target, "plotly_hover", (event) => {
    const found = find(event.points[0]);
    if (!found) return;
    replace(tip, trialTip(found.run, found.row));
    tip.hidden = false;
    const at = event.event || { clientX: 0, clientY: 0 };
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(8, at.clientX + 16 + box.width > innerWidth ? at.clientX - box.width - 16 : at.clientX + 16) + "px";
    tip.style.top = Math.max(8, Math.min(at.clientY + 12, innerHeight - box.height - 8)) + "px";
  });
  wire(target, "plotly_unhover", () => { tip.hidden = true; });
  wire(target, "plotly_click", (event) => {
    const found = find(event.points[0]);
    if (found) pick(found.run, found.row);
  });
}

const TIP_PARAMETERS = 12;

function trialTip(run, row) {
  const scores = TASKS.map((task) => {
    const score = scoreOf(run, row, "worth", task) || scoreOf(run, row, "search", task);
    return element("tr", {}, element("th", { scope: "row" }, taskTitle(task)), element("td", {}, intervalText(task, score)));
  });
  const values = parametersOf(run, row);
  return [
    element("strong", {}, nameOf(run, row)),
    RUNS.length > 1 ? element("div", { class: "dim" }, run.name) : null,
    element("table", {}, element("tbody", {}, scores,
      element("tr", {}, element("th", { scope: "row" }, JOINED), element("td", {}, joinedText(joinedOf(run, row, "worth") || joinedOf(run, row, "search")))))),
    values.length ? element("table", { class: "values" }, element("tbody", {}, values.slice(0, TIP_PARAMETERS).map(([dimension, value]) =>
      element("tr", {}, element("th", { scope: "row" }, dimension.name), element("td", {}, valueText(value)))))) : null,
    values.length > TIP_PARAMETERS ? element("div", { class: "dim" }, "and " + plural(values.length - TIP_PARAMETERS, "more parameter") + ": click") : null,
  ];
}

let graphics;

// Whether the browser can draw with WebGL, which only charts with three axes need.
function webgl() {
  if (graphics === undefined) {
    const canvas = document.createElement("canvas");
    graphics = Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
  }
  return graphics;
}
