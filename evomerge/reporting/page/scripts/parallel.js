// All tasks side by side, on the normalised scale: 0 is the base, 1 the best expert. A model is a line.

function drawParallel(plot) {
  const source = state.source, traces = [];
  for (const group of groups(source)) {
    traces.push(lines(group, source, group.role === "baseline" ? DASHES[BASELINES.indexOf(group.kind) % DASHES.length] : "solid"));
  }
  const [low, high] = reach(traces.flatMap((trace) => trace.y).filter(known));
  draw(plot, traces, layout({
    xaxis: axis({ tickvals: TASKS.map((_, i) => i), ticktext: TASKS.map((task) => safe(short(task.name, 20))), range: [-0.2, TASKS.length - 0.8], showgrid: true, gridcolor: ink("dim"), fixedrange: true }),
    yaxis: axis({ title: "normalised: 0 base, 1 best expert", range: [low, high] }), shapes: chosenLine(), uirevision: "parallel" + source,
  }));
}

// What is worth showing: models that fell apart, and tasks whose scale is narrow, would press all others together.
function reach(values) {
  const sorted = values.sort((a, b) => a - b);
  if (!sorted.length) return [-0.1, 1.1];
  return [Math.min(-0.1, Math.max(sorted[Math.floor(0.02 * sorted.length)] - 0.05, -1)), Math.max(1.1, Math.min(sorted[sorted.length - 1] + 0.05, 2))];
}

function lines(group, source, dash) {
  const x = [], y = [], customdata = [];
  for (const [index, row] of group.points) {
    TASKS.forEach((task, i) => {
      x.push(i);
      y.push(normalise(task, scoreOf(RUNS[index], row, source, task).mean));
      customdata.push([index, row]);
    });
    x.push(null);
    y.push(null);
    customdata.push(null);
  }
  const cloud = group.role === "cloud";
  return {
    type: "scatter", mode: cloud ? "lines" : "lines+markers", name: safe(group.title),
    x, y, customdata, hoverinfo: "none", showlegend: RUNS.length === 1 || !cloud, connectgaps: false, opacity: lineOpacity(group),
    line: { color: groupColour(group), width: group.role === "best" ? 3.5 : cloud ? 1 : 1.5, dash },
    marker: { symbol: groupShape(group), size: groupSize(group) * 0.85, color: groupColour(group) },
  };
}

function lineOpacity(group) {
  const few = group.points.length < 60;
  if (group.role === "cloud") return few ? 0.45 : 0.18;
  if (group.role === "front") return few ? 0.95 : group.points.length < 300 ? 0.45 : 0.15;
  return ["uniform", "untuned", "random"].includes(group.kind) ? 0.4 : 0.95;
}

// The chosen model as a line, with its intervals.
function chosenLine() {
  const run = focus(), scores = TASKS.map((task) => (state.row < 0 ? null : scoreOf(run, state.row, state.source, task)));
  if (!scores.every(Boolean)) return [];
  const at = (key, i) => normalise(TASKS[i], scores[i][key]).toFixed(4);
  const path = (steps) => ({ type: "path", path: steps, line: { color: ink("ink"), width: 3 } });
  const bars = scores.map((score, i) => (view.bars && known(score.low) && known(score.high) ? path(`M${i},${at("low", i)}L${i},${at("high", i)}`) : null));
  return [path(scores.map((_, i) => (i ? "L" : "M") + i + "," + at("mean", i)).join("")), ...bars, ...scores.map((_, i) => ringAt(i, Number(at("mean", i)), 7))].filter(Boolean);
}
