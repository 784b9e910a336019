// How the search went: the best so far and what the front covers, against models, items or seconds.

const ALONG = [["candidates", "models scored"], ["items", "items scored"], ["seconds", "seconds of scoring"]];

function progress() {
  if (!RUNS.some((run) => run.curves && run.curves.number.length)) return;
  const made = section("progress", "Progress", "The best " + JOINED + " score so far, with the baselines as dashed lines, and how much of the space between the base (0) and the best experts' scores at once (1) the front covers, its hypervolume. "
    + "Both by search scores as judged at the end, shrunk, so that luck alone does not make a curve rise.");
  let along = "candidates";
  const best = chart("Best score so far", 360), volume = chart("Hypervolume of the front so far", 360);
  made.append(element("div", { class: "controls" }, choice("Against", ALONG, along, (value) => { along = value; show(); })), element("div", { class: "pair" }, best, volume));
  const across = (run) => (along === "candidates" ? run.curves.number.map((_, i) => i + 1) : run.curves[along]);
  const titled = () => axis({ title: ALONG.find(([key]) => key === along)[1], rangemode: "tozero" });
  const line = (run, key) => ({ type: "scatter", mode: "lines", name: safe(run.name), x: across(run), y: run.curves[key],
    line: { shape: "hv", width: 2.5, color: colour(run.index), dash: RUNS.length > 6 ? DASHES[run.index % 5] : "solid" }, hovertemplate: "%{y:.3f} after %{x}<extra></extra>" });
  const show = () => {
    const lines = RUNS.filter((run) => run.curves && run.curves.number.length), plan = { uirevision: along, showlegend: RUNS.length > 1 };
    draw(best, [...lines.map((run) => line(run, "best")), ...baselineLines(lines, across)], layout({ xaxis: titled(), yaxis: axis({ title: "best so far, " + JOINED }), ...plan }));
    draw(volume, lines.map((run) => line(run, "hypervolume")), layout({ xaxis: titled(), yaxis: axis({ title: "hypervolume", rangemode: "tozero" }), ...plan }));
  };
  on(["theme"], show);
  show();
}

// Baselines as lines with their names on them, at either end in turn; each once, for runs of a sweep share theirs.
function baselineLines(lines, across) {
  const end = Math.max(...lines.flatMap((run) => across(run).slice(-1)));
  const seen = new Map(lines.flatMap((run) => (run.baseline_lines || []).map((line) => [line.name + line.joined, line])));
  return [...seen.values()].filter((line) => known(line.joined)).sort((a, b) => b.joined - a.joined).map(({ name, joined }, i) => ({
    type: "scatter", mode: "lines+text", x: [0, end], y: [joined, joined], text: i % 2 ? ["", safe(name)] : [safe(name), ""], textposition: i % 2 ? "top left" : "top right", textfont: { color: ink("dim"), size: 11 },
    showlegend: false, line: { dash: "dash", width: 1.3, color: ink("dim") }, hovertemplate: "%{y:.3f}<extra>" + safe(name) + "</extra>",
  }));
}
