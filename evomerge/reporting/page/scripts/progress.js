// How the search went: the best so far and what the front covers, against candidates, items or seconds.

const ALONG = [["candidates", "candidates"], ["items", "items scored"], ["seconds", "seconds of scoring"]];

function progress() {
  if (!RUNS.some((run) => run.curves && run.curves.number.length)) return;
  const made = section("progress", "Progress", "The best joined search score so far and the hypervolume of the front so far, both of what search scores are worth, as judged at the end (the luck of the best of many taken out). Dashed lines are the baselines.");
  let along = "candidates";
  const best = chart("Best joined score so far", 360), volume = chart("Hypervolume of the front so far", 360);
  made.append(element("div", { class: "controls" }, choice("Against", ALONG, along, (value) => { along = value; show(); })), element("div", { class: "pair" }, best, volume));
  const across = (run) => (along === "candidates" ? run.curves.number.map((_, i) => i + 1) : run.curves[along]);
  const titled = () => axis({ title: ALONG.find(([key]) => key === along)[1], rangemode: "tozero" });
  const line = (run, key) => ({ type: "scatter", mode: "lines", name: safe(RUNS.length > 1 ? run.name : key === "best" ? "best so far" : "hypervolume"), x: across(run), y: run.curves[key],
    line: { shape: "hv", width: 2.5, color: colour(run.index), dash: RUNS.length > 6 ? DASHES[run.index % 5] : "solid" }, hovertemplate: "%{y:.3f} after %{x}<extra></extra>" });
  const show = () => {
    const lines = RUNS.filter((run) => run.curves && run.curves.number.length);
    draw(best, [...lines.map((run) => line(run, "best")), ...baselineLines(lines, across)], layout({ xaxis: titled(), yaxis: axis({ title: "best joined score" }), uirevision: along }));
    draw(volume, lines.map((run) => line(run, "hypervolume")), layout({ xaxis: titled(), yaxis: axis({ title: "hypervolume, normalised", rangemode: "tozero" }), uirevision: along, showlegend: RUNS.length > 1 }));
  };
  on(["theme"], show);
  show();
}

// Baselines as lines, each once: runs of a sweep share theirs.
function baselineLines(lines, across) {
  const end = Math.max(...lines.flatMap((run) => across(run).slice(-1)));
  const seen = new Map(lines.flatMap((run) => (run.baseline_lines || []).map((line) => [line.name, line.joined])));
  return [...seen].filter(([, joined]) => known(joined)).map(([name, joined], i) => ({
    type: "scatter", mode: "lines", name: safe(name), x: [0, end], y: [joined, joined], line: { dash: DASHES[i % 5], width: 1.3, color: ink("dim") }, hovertemplate: "%{y:.3f}<extra>" + safe(name) + "</extra>",
  }));
}
