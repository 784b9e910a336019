// The head of the report: is the best found better than what one had, how sure is that, and how does one get it.

const STATES = { running: "still running", stopped: "stopped before its end", finished: "finished" };
const VERDICTS = { better: ["better", "good"], open: ["could be luck", ""], worse: ["worse", "bad"] };
const SURE = 0.05;

function glance() {
  const main = document.getElementById("main");
  const head = element("section", { id: "glance", "aria-label": "At a glance" });
  main.append(head);
  document.getElementById("nav").append(element("a", { href: "#glance" }, "Overview"));
  const lead = element("p", { class: "lead" }), panel = element("div", { class: "panel" }), table = element("div", {});
  replace(head, element("h1", {}, DATA.title), lead, RUNS.length > 1 ? runsTable() : null, panel, advice(), table);
  const show = () => {
    const run = focus();
    replace(lead, ...leadOf(run));
    replace(panel, verdictOf(run), factsOf(run));
    replace(table, rivalsTable(run));
  };
  on(["run"], show);
  show();
}

function leadOf(run) {
  return [badge(STATES[run.state] || run.state, run.state === "finished" ? "good" : "warn"), " ",
    [RUNS.length > 1 ? run.name : null, "optimizer " + (run.optimizer || NONE), run.method, "seed " + (run.seed === null ? NONE : run.seed), "experts " + run.experts.join(", ")].filter(Boolean).join(" · ")];
}

// How many items of a split a model is scored on, in words.
function itemsText(run, split) {
  const sizes = Object.entries((run.items || {})[split] || {});
  if (!sizes.length) return "";
  return sizes.every(([, n]) => n === sizes[0][1]) ? count(sizes[0][1]) + (sizes.length > 1 ? " items a task" : " items") : sizes.map(([task, n]) => count(n) + " of " + task).join(", ");
}

function lastSource(run) {
  const best = bestRow(run);
  return ["report", "selection", "worth", "search"].find((source) => best >= 0 && joinedOf(run, best, source));
}

function sourceTitle(source) {
  return (SOURCES.find(([name]) => name === source) || [source, source])[1];
}

function verdict(rival) {
  if (!known(rival.p) || rival.p >= SURE) return "open";
  return rival.mean > 0 ? "better" : "worse";
}

// "the best uniform merge": how a rival is called in a sentence.
function rivalTitle(run, rival) {
  const row = run.row.get(rival.trial);
  return "the best " + (row === undefined ? rival.title : KINDS[run.trials.kind[row]].title);
}

function listed(words) {
  return words.length < 2 ? words.join("") : words.slice(0, -1).join(", ") + " and " + words[words.length - 1];
}

function verdictOf(run) {
  const best = bestRow(run), found = run.versus;
  if (best < 0) return null;
  const among = (key) => (found ? found.rivals.filter((rival) => verdict(rival) === key).map((rival) => rivalTitle(run, rival)) : []);
  const better = among("better"), open = among("open"), worse = among("worse");
  const words = [worse.length ? "Worse than " + listed(worse) + "." : "", better.length ? "Better than " + listed(better) + "." : "", open.length ? "Too close to call against " + listed(open) + "." : ""].filter(Boolean);
  const basis = !found ? "" : found.split === "report" ? "On the report split (" + itemsText(run, "report") + "), which no choice has seen:"
    : "On the selection split (" + itemsText(run, "selection") + "), on which it was chosen, which flatters it a little:";
  return element("div", { class: "verdict" },
    element("h2", {}, nameOf(run, best), " ", found ? badge("best found", "good") : badge("leads so far", "warn")),
    found ? [element("p", { class: "dim" }, basis), element("p", { class: "headline" }, words.join(" "))]
      : element("p", { class: "headline" }, "No verdict yet: it has not been compared on items that the search has not seen."),
    run.trials.best[best] ? [element("h3", {}, "Get this model"), copyable("evomerge export " + shellWord(run.path) + " OUT", "the command that writes the best model")] : null);
}

// The ends of the front, and what it took.
function factsOf(run) {
  const members = rows(run, (row) => run.trials.front[row]), candidates = run.trials.kind.filter((kind) => kind === "candidate").length;
  const reached = TASKS.map((task) => [task, Math.max(...members.map((row) => (scoreOf(run, row, "worth", task) || { mean: -Infinity }).mean))]).filter(([, value]) => known(value));
  const volumes = SPLITS.filter((split) => run.hypervolume && run.hypervolume[split] && known(run.hypervolume[split].mean)).map((split) => split + " " + joinedText(run.hypervolume[split]));
  const failures = run.trials.failure.filter((failure) => failure !== null).length;
  const { seconds, items: scored } = run.cost || {};
  const fact = (title, ...texts) => [element("dt", {}, title), texts.filter(Boolean).map((text) => element("dd", {}, text))];
  return element("dl", { class: "facts" },
    TASKS.length < 2 ? null : fact("Trade-offs", element("a", { href: "#front" }, count(members.length) + " of " + plural(candidates, "candidate") + " on the front"),
      reached.length ? "up to " + reached.map(([task, value]) => task.name + " " + scoreText(task, value) + unitOf(task)).join(", ") + " (search, shrunk)" : null,
      volumes.length ? "hypervolume: " + volumes.join("; ") : null),
    fact("Work", duration(total(Object.values(seconds || {}))) + " of scoring, " + count(total(Object.values(scored || {}))) + " items, " + plural(failures, "failure")),
    fact("Report split", run.openings === 1 ? "opened once" : run.openings ? "opened " + count(run.openings) + " times: each look makes its scores a little less fresh" : "not opened yet"));
}

function total(values) {
  return values.reduce((sum, value) => sum + (known(value) ? value : 0), 0);
}

// The best of a kind of baseline on the selection split, before that by what search scores are worth.
function bestOfKind(run, kind) {
  for (const source of ["selection", "worth"]) {
    const key = (row) => joinedOf(run, row, source).mean;
    const found = rows(run, (row) => run.trials.kind[row] === kind && joinedOf(run, row, source)).reduce((best, row) => (best < 0 || key(row) > key(best) ? row : best), -1);
    if (found >= 0) return found;
  }
  return -1;
}

function rivalsTable(run) {
  const source = lastSource(run), best = bestRow(run);
  if (!source) return element("p", { class: "empty" }, "No candidate has been scored yet.");
  const shown = [...rows(run, (row) => ["base", "expert"].includes(run.trials.kind[row])), ...["uniform", "untuned", "random"].map((kind) => bestOfKind(run, kind)), best]
    .filter((row, i, all) => row >= 0 && all.indexOf(row) === i && joinedOf(run, row, source));
  const joined = shown.map((row) => joinedOf(run, row, source));
  const ends = [Math.min(...joined.map((score) => (known(score.low) ? score.low : score.mean))), Math.max(...joined.map((score) => (known(score.high) ? score.high : score.mean)))];
  const against = run.versus && run.versus.split === source ? new Map(run.versus.rivals.map((rival) => [run.row.get(rival.trial), rival])) : new Map();
  const titled = (row) => {
    const { kind, name } = run.trials, { mark, title } = KINDS[kind[row]] || KINDS.candidate;
    return [mark + " " + (row === best ? nameOf(run, row) : ["base", "expert"].includes(kind[row]) ? name[row] : "best " + title + " (" + name[row] + ")"), flaggedHealth(run, row) ? " †" : ""].join("");
  };
  const body = shown.map((row, i) => {
    const rival = against.get(row);
    return [titled(row), stacked(joined[i], (value) => fixed(value, 2)), intervalBar(joined[i], ends, joined[joined.length - 1].mean),
      ...(against.size ? [rival ? stacked(rival, (value) => signed(value, 2)) : "", rival ? badge(...VERDICTS[verdict(rival)]) : ""] : []),
      ...TASKS.map((task) => stacked(scoreOf(run, row, source, task), (value) => scoreText(task, value)))];
  });
  const header = ["model", JOINED, "", ...(against.size ? ["the best found is ahead by", ""] : []), ...TASKS.map(taskTitle)];
  const made = plainTable("The best found and its rivals", header, body, [1, ...(against.size ? [3] : []), ...TASKS.map((_, i) => header.length - 1 - i)]);
  made.querySelector("tbody tr:last-child").classList.add("chosen");
  return element("div", { class: "rivals" }, made, element("p", { class: "meaning" },
    "Scores on the " + sourceTitle(source) + ", below them 95 % intervals. " + MEANING_OF_JOINED,
    against.size ? " Differences are taken item by item on the same items, which tells more than two intervals side by side do. “Could be luck”: p is 0.05 or more, adjusted for " + plural(against.size, "comparison") + " (Holm)." : "",
    source === "worth" ? " " + MEANING_OF_SHRUNK : "",
    TASKS.some((task) => task.larger_is_better === false) ? " Where smaller values of a metric are better its sign is turned: everywhere larger is better." : "",
    shown.some((row) => flaggedHealth(run, row)) ? " †: at least half of its gain over the best expert on some task is healthier answers (fewer cut off, empty, looping or in the wrong form), not more knowledge." : ""));
}

// An interval as a line with a dot, on a scale that all rows share, with a line through all at one value.
function intervalBar(score, [low, high], through) {
  const at = (value) => 100 * (high > low ? (value - low) / (high - low) : 0.5) + "%";
  const span = known(score.low) && known(score.high) ? element("span", { class: "span", style: { left: at(score.low), right: `calc(100% - ${at(score.high)})` } }) : null;
  return element("span", { class: "track", "aria-hidden": "true" }, element("span", { class: "through", style: { left: at(through) } }), span, element("span", { class: "dot", style: { left: at(score.mean) } }));
}

function runsTable() {
  const made = element("fieldset", { class: "runs" }, element("legend", {}, plural(RUNS.length, "run")));
  const body = RUNS.map((run) => {
    const best = bestRow(run);
    const radio = element("input", { type: "radio", name: "run", id: "run-" + run.index, value: run.index, onchange: () => pickRun(run.index) });
    on(["run"], () => { radio.checked = state.run === run.index; });
    radio.checked = state.run === run.index;
    const swatch = element("span", { class: "swatch" });
    const paint = () => swatch.style.setProperty("background", colour(run.index));
    on(["theme"], paint);
    paint();
    return [
      element("label", { for: "run-" + run.index, class: "run" }, radio, swatch, run.name), run.optimizer || NONE, run.seed === null ? NONE : String(run.seed), STATES[run.state] || run.state,
      count(run.trials.kind.filter((kind) => kind === "candidate").length),
      ...["worth", "selection", "report"].map((source) => (best >= 0 ? joinedText(joinedOf(run, best, source)) : NONE)),
      run.curves && run.curves.hypervolume.length ? fixed(run.curves.hypervolume[run.curves.hypervolume.length - 1], 3) : NONE,
    ];
  });
  made.append(plainTable("Runs", ["run", "optimizer", "seed", "state", "candidates", "best: search, shrunk", "selection", "report", "hypervolume"], body, [4, 5, 6, 7, 8]),
    element("p", { class: "meaning" }, "Charts show all runs; what follows of a single run is of the one chosen here."));
  return made;
}

function advice() {
  const all = RUNS.flatMap((run) => [...(run.notes || []), ...(run.advice || [])].map((text) => (RUNS.length > 1 ? run.name + ": " : "") + text));
  return all.length ? element("div", { class: "note" }, element("strong", {}, "Worth knowing"), element("ul", {}, all.map((text) => element("li", {}, text)))) : null;
}
