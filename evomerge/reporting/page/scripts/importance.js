// Which parameters matter, and how the score moves along one of them.

const SHOWN_PARAMETERS = 15;

function importance() {
  if (!RUNS.some((run) => run.dimensions.length)) return;
  const made = section("importance", "What matters", "Left: how much of the differences between models each parameter accounts for; a bar that crosses zero may be nothing. Right: the search scores of the candidates along one parameter; click a bar to choose it.");
  const controls = element("div", { class: "controls" }), bars = chart("Importance of parameters", 420), slice = chart("Score along one parameter", 420);
  const none = element("p", { class: "empty" }, "No importance can be told here."), note = element("p", { class: "meaning" });
  made.append(controls, element("div", { class: "pair" }, element("div", {}, bars, none), slice), note);
  let target = "joined", along = 0, parameter;
  const told = () => Object.keys(focus().importance || {}).filter((key) => focus().importance[key]);
  const top = () => [...((focus().importance || {})[target] || [])].sort((a, b) => b.share - a.share).slice(0, SHOWN_PARAMETERS);
  const place = (name) => focus().dimensions.findIndex((dimension) => dimension.name === name);
  const show = () => {
    const run = focus(), targets = told();
    if (!targets.includes(target)) target = targets.includes("joined") ? "joined" : targets[0];
    along = Math.max(0, ...top().slice(0, 1).map((entry) => place(entry.dimension)));
    parameter = choice("Along", run.dimensions.map((dimension, i) => [i, dimension.name]), along, (value) => { along = Number(value); paint(); });
    replace(controls, targets.length ? choice("Of", targets.map((key) => [key, key === "joined" ? JOINED : key]), target, (value) => { target = value; show(); }) : null, parameter);
    replace(note, run.importance_note || "");
    bars.hidden = !targets.length;
    none.hidden = !bars.hidden;
    paint();
  };
  const paint = () => {
    const list = top().reverse(), error = list.map((entry) => 2 * (entry.error || 0));
    draw(bars, [{ type: "bar", orientation: "h", x: list.map((entry) => entry.share), y: list.map((entry) => safe(entry.dimension)), marker: { color: list.map((entry) => colour(place(entry.dimension) === along ? 1 : 0)) },
      error_x: { type: "data", array: error, color: ink("ink"), thickness: 1.2, width: 4 }, hovertemplate: "%{y}: %{x:.1%}<extra></extra>" }],
    layout({ xaxis: axis({ title: "share", tickformat: ".0%" }), yaxis: axis({ type: "category", tickvals: list.map((entry) => safe(entry.dimension)), ticktext: list.map((entry) => safe(short(entry.dimension, 26))) }), bargap: 0.35 }));
    drawSlice(slice, focus(), along);
  };
  wire(bars, "plotly_click", (event) => {
    const found = place(top().reverse()[event.points[0].pointNumber].dimension);
    if (found < 0) return;
    along = found;
    parameter.select.value = String(found);
    paint();
  });
  tips(slice, (point) => (known(point.customdata) ? { run: focus(), row: point.customdata } : null));
  on(["run"], show);
  on(["theme"], paint);
  on(["row"], () => mark(slice, sliceRing(focus(), along)));
  show();
}

function drawSlice(plot, run, along) {
  const dimension = run.dimensions[along];
  if (!dimension) return;
  const shown = rows(run, (row) => run.trials.kind[row] === "candidate" && run.trials.values[row] && joinedOf(run, row, "search"));
  const part = (keep, name, color, size) => {
    const kept = shown.filter(keep);
    return { type: "scatter", mode: "markers", name, x: kept.map((row) => run.trials.values[row][along]), y: kept.map((row) => joinedOf(run, row, "search").mean), customdata: kept, hoverinfo: "none",
      marker: { color, size, opacity: 0.7 } };
  };
  draw(plot, [part((row) => !run.trials.front[row], "candidates", ink("faint"), 5.5), part((row) => run.trials.front[row], "front", colour(0), 8)],
    layout({ xaxis: axis({ title: dimension.name }), yaxis: axis({ title: "search score, " + JOINED }), shapes: sliceRing(run, along) }));
}

function sliceRing(run, along) {
  const joined = joinedOf(run, state.row, "search"), values = run.trials.values[state.row];
  return joined && values && values[along] !== null && values[along] !== undefined ? [ringAt(values[along], joined.mean, 10)] : [];
}
