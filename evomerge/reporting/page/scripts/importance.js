// Which parameters matter, and how the score moves along one of them.

const SHOWN_PARAMETERS = 15;

function importance() {
  if (!RUNS.some((run) => Object.keys(run.importance || {}).length)) return;
  const made = section("importance", "What matters", "The share of the differences between candidates that goes with each parameter, and the joined search score of every candidate along one parameter.");
  const controls = element("div", { class: "controls" }), bars = chart("Importance of parameters", 420), slice = chart("Joined score along one parameter", 420);
  const note = element("p", { class: "meaning" });
  made.append(controls, element("div", { class: "pair" }, bars, slice), note);
  let target = "joined", along = 0;
  const listed = () => [...((focus().importance || {})[target] || [])].sort((a, b) => b.share - a.share).slice(0, SHOWN_PARAMETERS);
  const show = () => {
    const run = focus(), targets = Object.keys(run.importance || {});
    if (!targets.includes(target)) target = targets.includes("joined") ? "joined" : targets[0];
    const top = listed()[0];
    along = Math.max(0, run.dimensions.findIndex((dimension) => top && dimension.name === top.dimension));
    along_ = choice("Along", run.dimensions.map((dimension, i) => [i, dimension.name]), along, (value) => { along = Number(value); paint(); });
    replace(controls, targets.length ? choice("Of", targets.map((key) => [key, key]), target, (value) => { target = value; show(); }) : null, run.dimensions.length ? along_ : null);
    replace(note, run.importance_note || "");
    paint();
  };
  let along_;
  const paint = () => {
    const run = focus(), list = listed().reverse();
    draw(bars, [{ type: "bar", orientation: "h", x: list.map((entry) => entry.share), y: list.map((entry) => safe(entry.dimension)), marker: { color: list.map((entry) => (entry.dimension === (run.dimensions[along] || {}).name ? colour(1) : colour(0))) },
      hovertemplate: "%{y}: %{x:.1%}<extra></extra>" }],
    layout({ xaxis: axis({ title: "share", tickformat: ".0%", rangemode: "tozero" }), yaxis: axis({ type: "category", tickvals: list.map((entry) => safe(entry.dimension)), ticktext: list.map((entry) => safe(short(entry.dimension, 26))) }), bargap: 0.35 }));
    drawSlice(slice, run, along);
  };
  wire(bars, "plotly_click", (event) => {
    const entry = listed().reverse()[event.points[0].pointNumber];
    const found = focus().dimensions.findIndex((dimension) => dimension.name === entry.dimension);
    if (found < 0) return;
    along = found;
    along_.select.value = String(found);
    paint();
  });
  tips(slice, (point) => (point.customdata ? { run: focus(), row: point.customdata } : null));
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
    layout({ xaxis: axis({ title: dimension.name }), yaxis: axis({ title: "joined search score" }), shapes: sliceRing(run, along) }));
}

function sliceRing(run, along) {
  const joined = joinedOf(run, state.row, "search"), values = run.trials.values[state.row];
  return joined && values && known(values[along]) ? [ringAt(values[along], joined.mean, 10)] : [];
}
