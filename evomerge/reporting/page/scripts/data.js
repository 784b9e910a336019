// The data of the page, and small questions to them. Trials are columns: a trial is (run, row).

const DATA = JSON.parse(document.getElementById("data").textContent);
const TASKS = DATA.tasks;
const RUNS = DATA.runs;
const SPLITS = ["search", "selection", "report"];
const KINDS = {
  base: { title: "base", shape: "square", solid: "square", mark: "■" },
  expert: { title: "expert", shape: "diamond", solid: "diamond", mark: "◆" },
  uniform: { title: "uniform merge", shape: "triangle-up", solid: "square-open", mark: "▲" },
  untuned: { title: "untuned merge", shape: "triangle-down", solid: "cross", mark: "▼" },
  random: { title: "random point", shape: "x-thin", solid: "circle-open", mark: "×" },
  candidate: { title: "candidate", shape: "circle", solid: "circle", mark: "●" },
};
const BASELINES = ["base", "expert", "uniform", "untuned", "random"];

RUNS.forEach((run, index) => {
  run.index = index;
  run.row = new Map(run.trials.number.map((number, row) => [number, row]));
  run.size = run.trials.number.length;
});

function rows(run, keep) {
  const found = [];
  for (let row = 0; row < run.size; row++) if (keep(row)) found.push(row);
  return found;
}

function cell(columns, row) {
  return columns && known(columns.mean[row]) ? { mean: columns.mean[row], low: columns.low[row], high: columns.high[row] } : null;
}

// The score of a trial on a task. `source` is a split, or "worth": what the search score is worth, after shrinking.
function scoreOf(run, row, source, task) {
  if (source === "worth") return fromError(run.trials.worth && run.trials.worth.tasks[task.name], row, task.share ? [0, 1] : undefined);
  const split = run.trials.scores[source];
  return split ? cell(split[task.name], row) : null;
}

// The weighted mean of a trial's normalised scores.
function joinedOf(run, row, source) {
  if (source === "worth") return fromError(run.trials.worth && run.trials.worth.joined, row);
  return cell(run.trials.joined[source], row);
}

function fromError(columns, row, [least, most] = [-Infinity, Infinity]) {
  if (!columns || !known(columns.mean[row])) return null;
  const mean = columns.mean[row], half = known(columns.error[row]) ? 1.96 * columns.error[row] : null;
  return { mean, low: half === null ? null : Math.max(mean - half, least), high: half === null ? null : Math.min(mean + half, most) };
}

function normalise(task, value) {
  return known(task.low) && known(task.high) && task.high > task.low ? (value - task.low) / (task.high - task.low) : value;
}

function hasSource(source) {
  return RUNS.some((run) => rows(run, (row) => joinedOf(run, row, source) !== null).length > 0);
}

const SOURCES = [["worth", "search split, shrunk"], ["search", "search split, as measured"], ["selection", "selection split"], ["report", "report split"]]
  .filter(([source]) => hasSource(source));

function nameOf(run, row) {
  const { kind, name, number } = run.trials;
  return kind[row] === "candidate" && String(name[row]) === String(number[row]) ? "candidate " + number[row] : name[row];
}

// Whether a trial's gain over the best expert on some task is mostly healthier answers.
function flaggedHealth(run, row) {
  return Object.values(run.trials.explained_by_health || {}).some((flags) => flags[row] === true);
}

function bestRow(run) {
  const best = run.trials.best.indexOf(true);
  if (best >= 0) return best;
  let found = -1;
  for (const row of rows(run, (r) => run.trials.kind[r] === "candidate")) {
    const mine = joinedOf(run, row, "worth"), theirs = found < 0 ? null : joinedOf(run, found, "worth");
    if (mine && (!theirs || mine.mean > theirs.mean)) found = row;
  }
  return found >= 0 ? found : run.size ? 0 : -1;
}

// The values of a trial's parameters as [dimension, value].
function parametersOf(run, row) {
  const values = run.trials.values[row];
  return values ? run.dimensions.map((dimension, i) => [dimension, values[i]]) : [];
}

function valueText(value) {
  return typeof value === "number" ? figure(value, 3) : value === null || value === undefined ? NONE : String(value);
}

function failed(run, row) {
  return run.trials.failure[row] !== null && run.trials.failure[row] !== undefined;
}
