// The chosen model: its scores, its recipe, and the command that writes it.

function detail(pane) {
  const show = () => {
    const run = focus(), row = state.row;
    if (row < 0) replace(pane, element("p", { class: "empty" }, "Nothing is chosen yet."));
    else replace(pane, detailOf(run, row));
  };
  on(["row", "run"], show);
  show();
}

function detailOf(run, row) {
  const trials = run.trials, number = trials.number[row], recipe = (run.recipes || {})[String(number)];
  const failure = trials.failure[row];
  return [
    element("h3", {}, nameOf(run, row), " ", marks(run, row).slice(1)),
    element("p", { class: "dim" }, [RUNS.length > 1 ? run.name : null, "number " + number, (KINDS[trials.kind[row]] || KINDS.candidate).title, trials.stage[row] ? "stage " + trials.stage[row] : null,
      known(trials.seconds[row]) ? "scored in " + duration(trials.seconds[row]) : null].filter(Boolean).join(" · ")),
    failure ? element("p", { class: "note bad" }, failure.kind + ": " + failure.message) : null,
    known(trials.beaten_by[row]) ? element("p", { class: "note" }, "Not scored to the end: candidate " + trials.beaten_by[row] + " was clearly better.") : null,
    scoresTable(run, row),
    trials.kind[row] === "candidate" && !failure ? [element("h4", {}, "Get this model"),
      copyable("evomerge export " + shellWord(run.path) + " OUT --pick " + number, "the command that writes this model")] : null,
    (run.flags || []).filter((flag) => flag.trial === number).map((flag) => element("p", { class: "dim" }, badge("health", "warn"), " " + flag.task + ", " + flag.split + ": " + flag.text)),
    parametersTable(parametersOf(run, row)),
    recipe && recipe.yaml ? element("details", {}, element("summary", {}, "Recipe"), copyable(recipe.yaml, "the recipe")) : null,
    healthDetails(run, row),
    element("p", { class: "dim hash" }, "recipe ", element("code", {}, trials.hash[row] || NONE), trials.fingerprint[row] ? [element("br"), "weights ", element("code", {}, trials.fingerprint[row])] : null),
  ];
}

function scoresTable(run, row) {
  const shown = SOURCES.filter(([source]) => joinedOf(run, row, source) || TASKS.some((task) => scoreOf(run, row, source, task)));
  if (!shown.length) return element("p", { class: "empty" }, "It has no score.");
  const made = plainTable("Scores of the chosen model", ["", ...shown.map(([source]) => (source === "worth" ? "shrunk" : source))], [
    ...TASKS.map((task) => [taskTitle(task), ...shown.map(([source]) => stacked(scoreOf(run, row, source, task), (value) => (task.share ? scoreText(task, value) : figure(value, 3))))]),
    [JOINED, ...shown.map(([source]) => stacked(joinedOf(run, row, source), (value) => fixed(value, 2)))],
  ], shown.map((_, i) => i + 1));
  made.querySelector("table").classList.add("small");
  return made;
}

// Values with a bar that shows where in its range each lies.
function parametersTable(values) {
  if (!values.length) return null;
  const place = ({ low, high }, value) => (known(value) && known(low) && high > low ? 100 * Math.min(1, Math.max(0, (value - low) / (high - low))) : null);
  const line = ([dimension, value]) => element("tr", {},
    element("th", { scope: "row" }, [dimension.expert, dimension.group].filter(Boolean).join(" · ") || dimension.name), element("td", {}, dimension.parameter),
    element("td", { class: "number" }, valueText(value)),
    element("td", { class: "range", title: "from " + valueText(dimension.low) + " to " + valueText(dimension.high) },
      place(dimension, value) === null ? null : element("span", { class: "track", "aria-hidden": "true" }, element("span", { class: "dot", style: { left: place(dimension, value) + "%" } }))));
  return [element("h4", {}, plural(values.length, "parameter")), element("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Parameters" }, element("table", { class: "parameters" },
    element("caption", { class: "offscreen" }, "Parameters"), element("thead", {}, element("tr", {}, ["where", "what", "value", "in its range"].map((text) => element("th", { scope: "col" }, text)))),
    element("tbody", {}, values.map(line))))];
}

const RATES = ["truncated", "empty", "looping", "malformed"];

function healthDetails(run, row) {
  const lines = SPLITS.flatMap((split) => Object.entries((run.trials.health || {})[split] || {})
    .filter(([, rates]) => RATES.some((rate) => rates[rate] && known(rates[rate][row])))
    .map(([task, rates]) => [task + ", " + split, ...RATES.map((rate) => (rates[rate] ? percent(rates[rate][row]) : NONE))]));
  return lines.length ? element("details", {}, element("summary", {}, "Health of its answers"), plainTable("Health of answers", ["", ...RATES], lines, [1, 2, 3, 4])) : null;
}
