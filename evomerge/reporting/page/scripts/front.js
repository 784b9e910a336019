// The front of trade-offs: any two tasks as axes, three in space, or all side by side; beside it the chosen model, below
// it the table of all.

const view = { form: TASKS.length > 3 ? "parallel" : "plane", x: 0, y: Math.min(1, TASKS.length - 1), z: 2, bars: true, all: true };

function front() {
  const made = section("front", "Front", "Each mark is a model, with its 95 % interval. The large points are on the front: by shrunk search scores no other candidate is at least as good on all tasks. Point at a mark to see its recipe; click it, or a line of the table, to see all of it beside. "
    + MEANING_OF_SHRUNK);
  const plot = chart("Scores of all models. The table below holds the same.", 540);
  const controls = element("div", { class: "controls" });
  const pane = element("aside", { id: "detail", "aria-label": "The chosen model" });
  made.append(controls, element("div", { class: "split front" }, element("div", { class: "plot" }, plot), pane, table()));
  const forms = [["plane", "two tasks"], TASKS.length > 2 && webgl() ? ["space", "three tasks"] : null, TASKS.length > 1 ? ["parallel", "all tasks side by side"] : null].filter(Boolean);
  const axes = TASKS.map((task, i) => [i, task.name]);
  const set = (key, number) => (value) => { view[key] = number ? Number(value) : value; show(); };
  const across = choice("Across", axes, view.x, set("x", true)), up = choice("Up", axes, view.y, set("y", true)), deep = choice("Deep", axes, view.z, set("z", true));
  replace(controls,
    choice("Scores", SOURCES, state.source, (source) => choose({ source })),
    forms.length > 1 ? choice("View", forms, view.form, set("form")) : null,
    across, up, deep, tick("intervals", view.bars, set("bars")), tick("candidates off the front", view.all, set("all")));
  const show = () => {
    across.hidden = up.hidden = view.form === "parallel" || TASKS.length < 3;
    deep.hidden = view.form !== "space";
    if (view.form === "parallel") drawParallel(plot);
    else drawPlane(plot);
  };
  tips(plot, (point) => (point.customdata ? { run: RUNS[point.customdata[0]], row: point.customdata[1] } : null));
  on(["source", "theme"], show);
  // Thousands of points stay as they are when another is chosen.
  on(["row"], () => (view.form === "space" ? show() : mark(plot, view.form === "parallel" ? chosenLine() : chosenRing())));
  detail(pane);
  show();
}

// The trials of all runs in groups that are drawn alike: {title, run, rows, kind, role}. A baseline that several runs
// share is drawn once, and above the crowd.
function groups(source) {
  const found = [], baselines = [], seen = new Set();
  const scored = (run, row) => TASKS.every((task) => scoreOf(run, row, source, task));
  for (const kind of BASELINES) {
    const points = RUNS.flatMap((run) => rows(run, (row) => {
      const key = kind + "/" + run.trials.hash[row] + "/" + run.trials.name[row];
      if (run.trials.kind[row] !== kind || !scored(run, row) || seen.has(key)) return false;
      seen.add(key);
      return true;
    }).map((row) => [run.index, row]));
    baselines.push({ title: KINDS[kind].title, role: "baseline", kind, points });
  }
  RUNS.forEach((run) => {
    const prefix = RUNS.length > 1 ? run.name + ": " : "";
    const part = (keep) => rows(run, (row) => run.trials.kind[row] === "candidate" && scored(run, row) && keep(row)).map((row) => [run.index, row]);
    const best = run.trials.best;
    found.push({ title: prefix + "candidates", role: "cloud", kind: "candidate", run, points: part((row) => !run.trials.front[row] && !best[row]) });
    found.push({ title: prefix + "front", role: "front", kind: "candidate", run, points: part((row) => run.trials.front[row] && !best[row]) });
    found.push({ title: prefix + "best found", role: "best", kind: "candidate", run, points: part((row) => best[row]) });
  });
  const best = found.filter((group) => group.role === "best");
  return [...found.filter((group) => group.role !== "best"), ...baselines, ...best].filter((group) => group.points.length && (view.all || group.role !== "cloud"));
}

function groupColour(group) {
  if (group.role === "baseline") return RUNS.length > 1 ? ink("dim") : colour(1);
  if (RUNS.length > 1) return colour(group.run.index);
  return { cloud: ink("faint"), front: colour(0), best: colour(2) }[group.role];
}

// The shape of a mark; with three axes there are other ones.
function groupShape(group, solid) {
  if (group.role === "best") return solid ? "diamond-open" : "star";
  return KINDS[group.kind][solid ? "solid" : "shape"];
}

function groupSize(group) {
  return { baseline: 10, cloud: 5.5, front: 9, best: 15 }[group.role];
}

function intervals(group, task, source) {
  const scores = group.points.map(([run, row]) => scoreOf(RUNS[run], row, source, task));
  return { mean: scores.map((s) => s.mean), up: scores.map((s) => (known(s.high) ? s.high - s.mean : 0)), down: scores.map((s) => (known(s.low) ? s.mean - s.low : 0)) };
}

function drawPlane(plot) {
  const source = state.source, solid = view.form === "space";
  const tasks = (solid ? [view.x, view.y, view.z] : [view.x, view.y]).map((i) => TASKS[i]);
  const single = TASKS.length === 1;
  const all = groups(source);
  const traces = [];
  for (const group of all) {
    const [x, y, z] = tasks.map((task) => intervals(group, task, source));
    // One task alone is drawn against the order of the candidates.
    const across = single ? { mean: group.points.map(([run, row]) => RUNS[run].trials.number[row]) } : x;
    const bar = (part) => ({ type: "data", symmetric: false, array: part.up, arrayminus: part.down, thickness: 1.2, width: 0, color: solid ? groupColour(group) : faded(groupColour(group)) });
    const bars = view.bars && (["front", "best"].includes(group.role) || ["base", "expert"].includes(group.kind));
    const flat = group.kind === "random";
    traces.push({
      type: solid ? "scatter3d" : "scatter",
      mode: ["base", "expert"].includes(group.kind) && !solid ? "markers+text" : "markers",
      name: safe(group.title), x: across.mean, y: (single ? x : y).mean, z: solid ? z.mean : undefined,
      customdata: group.points, hoverinfo: "none", showlegend: RUNS.length === 1 || group.role !== "cloud", textposition: "bottom center", textfont: { color: ink("dim"), size: 11 },
      text: ["base", "expert"].includes(group.kind) ? group.points.map(([run, row]) => safe(short(nameOf(RUNS[run], row), 18))) : undefined,
      error_x: bars && !single ? bar(x) : undefined, error_y: bars ? bar(single ? x : y) : undefined, error_z: bars && solid ? bar(z) : undefined,
      marker: {
        color: groupColour(group), symbol: groupShape(group, solid),
        size: solid ? groupSize(group) * 0.6 : groupSize(group), opacity: group.role === "cloud" ? 0.75 : 0.95,
        line: { width: flat ? 1.5 : group.role === "cloud" ? 0 : 1, color: flat ? groupColour(group) : ink("card") },
      },
    });
    if (group.role === "front" && !solid && TASKS.length === 2 && source === "worth") traces.splice(traces.length - 1, 0, stairs(group, all));
  }
  const run = focus();
  if (solid && state.row >= 0 && tasks.every((task) => scoreOf(run, state.row, source, task))) {
    const [x, y, z] = tasks.map((task) => [scoreOf(run, state.row, source, task).mean]);
    traces.push({ type: "scatter3d", mode: "markers", name: "chosen", x, y, z, hoverinfo: "none", marker: { symbol: "circle-open", size: 14, color: ink("ink"), line: { width: 2.5, color: ink("ink") } } });
  }
  const titled = (task) => axis({ title: taskTitle(task), tickformat: task.share ? ".0%" : undefined });
  const plan = solid
    ? { scene: { aspectmode: "cube", camera: { eye: { x: 1.5, y: 1.5, z: 1 }, center: { x: 0, y: 0, z: -0.15 } }, xaxis: sceneAxis(tasks[0]), yaxis: sceneAxis(tasks[1]), zaxis: sceneAxis(tasks[2]) }, uirevision: "space" }
    : { xaxis: single ? axis({ title: "number" }) : titled(tasks[0]), yaxis: titled(tasks[single ? 0 : 1]), shapes: chosenRing(), uirevision: tasks.map((task) => task.name).join("/") + source };
  draw(plot, traces, layout(plan));
}

function chosenRing() {
  const run = focus(), tasks = [view.x, view.y].map((i) => TASKS[i]);
  if (state.row < 0 || !tasks.every((task) => scoreOf(run, state.row, state.source, task))) return [];
  const [x, y] = tasks.map((task) => scoreOf(run, state.row, state.source, task).mean);
  return [ringAt(TASKS.length === 1 ? run.trials.number[state.row] : x, y, 11)];
}

function sceneAxis(task) {
  return { title: { text: safe(taskTitle(task)) }, tickformat: task.share ? ".0%" : undefined, gridcolor: ink("line"), backgroundcolor: "rgba(0,0,0,0)", color: ink("ink") };
}

// The border of what the front covers.
function stairs(group, all) {
  const best = all.filter((other) => other.role === "best" && other.run === group.run && RUNS[other.points[0][0]].trials.front[other.points[0][1]]).flatMap((other) => other.points);
  const points = [...group.points, ...best].map(([run, row]) => [view.x, view.y].map((i) => scoreOf(RUNS[run], row, "worth", TASKS[i]).mean));
  points.sort((a, b) => a[0] - b[0] || b[1] - a[1]);
  return {
    type: "scatter", mode: "lines", x: points.map((p) => p[0]), y: points.map((p) => p[1]), line: { shape: "vh", width: 1.5, color: groupColour(group) },
    opacity: 0.5, hoverinfo: "skip", showlegend: false, name: "border of the front",
  };
}
