// The amortised front: for any preference the predicted best recipe, what it promises, and the command that builds it.

// The index of the best point: least below its floors, then the largest weighted mean of normalised values, then the
// smallest index. Sums run from left to right in doubles, as they do in Python, so that both choose the same point.
function preferredPoint(predicted, weights) {
  const { low, high, floors, points } = predicted;
  const scale = (t, value) => (known(low[t]) && known(high[t]) && high[t] > low[t] ? (value - low[t]) / (high[t] - low[t]) : value);
  let total = 0;
  for (const weight of weights) total += weight;
  if (!(total > 0)) return -1;
  let best = -1, least = Infinity, most = -Infinity;
  points.values.forEach((values, index) => {
    let lacking = 0, mean = 0;
    values.forEach((value, t) => {
      if (known(floors[t])) lacking += Math.max(scale(t, floors[t]) - scale(t, value), 0);
      mean += weights[t] * scale(t, value);
    });
    mean /= total;
    if (lacking < least || (lacking === least && mean > most)) [best, least, most] = [index, lacking, mean];
  });
  return best;
}

function preferArguments(tasks, texts) {
  return tasks.map((task, t) => [task, texts[t]]).filter(([, text]) => Number(text) > 0).map(([task, text]) => "--prefer " + shellWord(task + "=" + text)).join(" ");
}

function preference() {
  if (!RUNS.some((run) => run.predicted)) return;
  const made = section("preference", "Any preference", "From the search scores the run predicts what recipes would score that nobody has tried. Say how much each task matters to you, and read which recipe is predicted to be best for that, what it promises, and the command that builds it. "
    + "A prediction is no score: build the model and evaluate it before anything is claimed of it.");
  const place = element("div", {});
  made.append(place);
  const show = () => {
    replace(place, preferenceOf(focus()));
    forgetCharts();
  };
  on(["run"], show);
  show();
}

let redrawPreference = () => {};
on(["theme"], () => redrawPreference());

function preferenceOf(run) {
  const predicted = run.predicted;
  redrawPreference = () => {};
  if (!predicted || !predicted.points.values.length) return element("p", { class: "empty" }, "This run has no predicted front: its candidates were too few, or it was not finished.");
  const tasks = predicted.tasks.map((name) => TASKS.find((task) => task.name === name) || { name, share: false });
  const most = Math.max(...predicted.weights.filter(known), 0);
  const sliders = tasks.map((task, t) => slider(task, t, most > 0 && known(predicted.weights[t]) ? predicted.weights[t] / most : 1));
  const outcome = element("div", { class: "outcome", "aria-live": "polite" });
  const plot = tasks.length > 1 ? chart("The predicted front and the recipe chosen on it", 380) : null;
  const show = () => {
    const texts = sliders.map((made) => made.input.value);
    sliders.forEach((made) => { made.output.textContent = made.input.value; });
    const index = preferredPoint(predicted, texts.map(Number));
    replace(outcome, index < 0 ? element("p", { class: "note" }, "Give at least one task a weight above 0.") : promised(run, tasks, index, texts));
    if (plot) drawPredicted(plot, run, tasks, index);
  };
  sliders.forEach((made) => made.input.addEventListener("input", show));
  redrawPreference = () => { if (plot && plot.isConnected) show(); };
  show();
  return [
    predicted.trusted === false ? element("p", { class: "note bad" }, "The surrogates of this run predict points left out too badly to be trusted: read this as a guess.") : null,
    element("div", { class: "split" },
      element("div", {}, element("fieldset", { class: "sliders" }, element("legend", {}, "How much each task matters"), sliders), plot, qualityOf(predicted)),
      outcome),
  ];
}

function slider(task, t, value) {
  const id = "prefer-" + t;
  const input = element("input", { type: "range", id, min: "0", max: "1", step: "0.05", value: String(Math.round(value * 20) / 20), "data-task": task.name });
  const output = element("output", { for: id });
  const made = element("div", { class: "slider" }, element("label", { for: id }, task.name), input, output);
  return Object.assign(made, { input, output });
}

function promised(run, tasks, index, texts) {
  const { predicted } = run, { points } = predicted;
  const rows_ = tasks.map((task, t) => [taskTitle(task), scoreText(task, points.values[index][t]),
    scoreText(task, points.promise_low[index][t]) + " to " + scoreText(task, points.promise_high[index][t])]);
  const missed = tasks.filter((_, t) => known(predicted.floors[t]) && points.values[index][t] < predicted.floors[t]).map((task) => task.name);
  const values = (points.parameters[index] || []).map((value, i) => [run.dimensions[i] || { name: String(i) }, value]);
  return [
    element("h3", {}, "Predicted best"),
    missed.length ? element("p", { class: "note" }, "No predicted point reaches all floors; this one lacks least (" + missed.join(", ") + ").") : null,
    plainTable("What this recipe promises", ["task", "predicted", "promised (95 %)"], rows_, [1, 2]),
    predicted.items ? element("p", { class: "dim" }, "The promise: with 95 % probability all its scores on new items (" + tasks.map((task, t) => count(predicted.items[t]) + " of " + task.name).join(", ") + ") lie there.") : null,
    element("p", { class: "dim hash" }, "recipe ", element("code", { id: "predicted-hash" }, points.hash[index]), " (the command prints it, too)"),
    element("h4", {}, "Build it"),
    copyable(predicted.command.replace("{prefer}", () => preferArguments(predicted.tasks, texts)), "the command that builds the predicted best"),
    parametersTable(values),
  ];
}

function qualityOf(predicted) {
  const found = Object.entries(predicted.diagnostics || {}).filter(([, diagnostics]) => diagnostics && known(diagnostics.r2));
  return found.length ? element("p", { class: "dim" }, "How well the surrogates predict points left out (R²): " + found.map(([task, { r2 }]) => task + " " + fixed(r2, 2)).join(", ") + ".") : null;
}

// Two tasks are the axes; of more, all lie side by side.
function drawPredicted(plot, run, tasks, index) {
  const { points } = run.predicted, flat = tasks.length === 2;
  const real = rows(run, (row) => run.trials.front[row]).map((row) => TASKS.map((task) => scoreOf(run, row, "worth", task))).filter((scores) => scores.every(Boolean));
  const at = (values) => values.map((value, t) => normalise(tasks[t], value));
  const chosen = index < 0 ? null : { values: points.values[index], low: points.promise_low[index], high: points.promise_high[index] };
  const bars = (t) => ({ type: "data", symmetric: false, array: [chosen.high[t] - chosen.values[t]], arrayminus: [chosen.values[t] - chosen.low[t]], color: colour(1), thickness: 1.5, width: 5 });
  if (flat) {
    const traces = [
      { type: "scatter", mode: "markers", name: "predicted front", x: points.values.map((v) => v[0]), y: points.values.map((v) => v[1]), hoverinfo: "x+y", marker: { color: colour(0), size: 4, opacity: 0.6 } },
      { type: "scatter", mode: "markers", name: "scored front, shrunk", x: real.map((s) => s[0].mean), y: real.map((s) => s[1].mean), hoverinfo: "x+y", marker: { color: ink("dim"), size: 8, symbol: "circle-open" } },
    ];
    if (chosen) traces.push({ type: "scatter", mode: "markers", name: "chosen, with its promise", x: [chosen.values[0]], y: [chosen.values[1]], error_x: bars(0), error_y: bars(1), hoverinfo: "x+y", marker: { color: colour(1), size: 15, symbol: "star" } });
    const titled = (task) => axis({ title: taskTitle(task), tickformat: task.share ? ".0%" : undefined });
    return draw(plot, traces, layout({ xaxis: titled(tasks[0]), yaxis: titled(tasks[1]), uirevision: "predicted" }));
  }
  const across = tasks.map((_, t) => t), shown = thinned(points.values, 300);
  const joined = (list) => ({ x: list.flatMap(() => [...across, null]), y: list.flatMap((values) => [...at(values), null]) });
  const traces = [
    { type: "scatter", mode: "lines", name: "predicted front", ...joined(shown), hoverinfo: "skip", line: { color: colour(0), width: 1 }, opacity: 0.25 },
    { type: "scatter", mode: "lines", name: "scored front, shrunk", ...joined(real.map((scores) => scores.map((s) => s.mean))), hoverinfo: "skip", line: { color: ink("dim"), width: 1, dash: "dot" }, opacity: 0.7 },
  ];
  if (chosen) {
    const [mean, low, high] = [chosen.values, chosen.low, chosen.high].map(at);
    traces.push({ type: "scatter", mode: "lines+markers", name: "chosen, with its promise", x: across, y: mean, hoverinfo: "y", line: { color: colour(1), width: 3 }, marker: { symbol: "star", size: 13 },
      error_y: { type: "data", symmetric: false, array: high.map((h, t) => h - mean[t]), arrayminus: mean.map((m, t) => m - low[t]), color: colour(1), thickness: 1.5, width: 5 } });
  }
  return draw(plot, traces, layout({
    xaxis: axis({ tickvals: across, ticktext: tasks.map((task) => safe(short(task.name, 18))), range: [-0.2, tasks.length - 0.8], gridcolor: ink("dim"), fixedrange: true }),
    yaxis: axis({ title: "normalised: 0 base, 1 best expert", range: reach(traces.flatMap((trace) => trace.y).filter(known)) }), uirevision: "predicted",
  }));
}

function thinned(values, most) {
  const step = Math.ceil(values.length / most);
  return values.filter((_, i) => i % step === 0);
}
