// The head of the report: what was found, against what, and how sure that is; for several runs a line each.

const STATES = { running: "still running", stopped: "stopped before its end", finished: "finished" };

function glance() {
  const main = document.getElementById("main");
  const head = element("section", { id: "glance", "aria-label": "At a glance" });
  main.append(head);
  document.getElementById("nav").append(element("a", { href: "#glance" }, "Overview"));
  const title = element("h1", {}, DATA.title);
  const lead = element("p", { class: "lead" });
  const cards = element("div", { class: "cards" });
  const table = element("div", {});
  replace(head, title, lead, RUNS.length > 1 ? runsTable() : null, cards, table, advice());
  const show = () => {
    const run = focus();
    replace(lead, ...leadOf(run));
    replace(cards, ...cardsOf(run));
    replace(table, rivalsTable(run));
  };
  on(["run"], show);
  show();
}

function leadOf(run) {
  const sizes = SPLITS.filter((split) => run.items && run.items[split])
    .map((split) => split + ": " + Object.entries(run.items[split]).map(([task, n]) => count(n) + " of " + task).join(", "));
  return [
    badge(STATES[run.state] || run.state, run.state === "finished" ? "good" : "warn"), " ",
    [run.name, run.optimizer, run.method, "seed " + run.seed, "experts " + run.experts.join(", ")].join(" · "),
    element("br"), element("span", { class: "dim" }, "Items scored: " + (sizes.join("; ") || NONE) + "."),
  ];
}

function lastSource(run) {
  return ["report", "selection", "worth", "search"].find((source) => {
    const best = bestRow(run);
    return best >= 0 && joinedOf(run, best, source);
  });
}

function sourceTitle(source) {
  return (SOURCES.find(([name]) => name === source) || [source, source])[1];
}

function bestOfKind(run, kind, source) {
  const key = (row) => { const joined = joinedOf(run, row, source); return joined ? joined.mean : -Infinity; };
  return rows(run, (row) => run.trials.kind[row] === kind && joinedOf(run, row, source))
    .reduce((best, row) => (best < 0 || key(row) > key(best) ? row : best), -1);
}

function card(title, value, note) {
  return element("div", { class: "card" }, element("div", { class: "card-title" }, title),
    element("div", { class: "card-value" }, value), element("div", { class: "dim" }, note));
}

function cardsOf(run) {
  const source = lastSource(run), best = bestRow(run), made = [];
  if (source) {
    const uniform = bestOfKind(run, "uniform", source), expert = bestOfKind(run, "expert", source);
    const against = [[uniform, "best uniform merge"], [expert, "best expert"]].filter(([row]) => row >= 0)
      .map(([row, text]) => text + " " + fixed(joinedOf(run, row, source).mean, 2)).join(" · ");
    const joined = joinedOf(run, best, source);
    made.push(card("Best found: " + nameOf(run, best), fixed(joined.mean, 2),
      [known(joined.low) ? "95 % interval " + fixed(joined.low, 2) + " to " + fixed(joined.high, 2) + ", " : "", sourceTitle(source),
        element("br"), against]));
  }
  const front = run.trials.front.filter(Boolean).length;
  const volumes = SPLITS.filter((split) => run.hypervolume && run.hypervolume[split] && known(run.hypervolume[split].mean))
    .map((split) => split + " " + joinedText(run.hypervolume[split]));
  made.push(card("On the front", count(front), ["of " + plural(run.trials.kind.filter((kind) => kind === "candidate").length, "candidate"),
    element("br"), volumes.length ? "hypervolume: " + volumes.join("; ") : ""]));
  made.push(card("Work", duration(sum(Object.values((run.cost && run.cost.seconds) || {}))),
    [count(sum(Object.values((run.cost && run.cost.items) || {}))) + " items scored", element("br"),
      plural(run.trials.failure.filter((failure) => failure !== null).length, "failure")]));
  made.push(card("Report split", run.openings === 1 ? "opened once" : run.openings ? "opened " + count(run.openings) + " times" : "never opened",
    run.openings > 1 ? "each look makes its scores a little less fresh" : "scores there took no part in any choice"));
  return made;
}

function sum(values) {
  return values.reduce((total, value) => total + (known(value) ? value : 0), 0);
}

function rivalsTable(run) {
  const source = lastSource(run);
  if (!source) return element("p", { class: "empty" }, "No candidate has been scored yet.");
  const shown = [
    ...rows(run, (row) => ["base", "expert"].includes(run.trials.kind[row])).map((row) => [nameOf(run, row), row]),
    ...[["uniform", "best uniform merge"], ["untuned", "best untuned merge"], ["random", "best random point"]]
      .map(([kind, title]) => [title, bestOfKind(run, kind, source)]).filter(([, row]) => row >= 0)
      .map(([title, row]) => [title + " (" + run.trials.name[row] + ")", row]),
    ["best found (" + run.trials.number[bestRow(run)] + ")", bestRow(run)],
  ].filter(([, row]) => joinedOf(run, row, source));
  const body = shown.map(([title, row]) => [
    element("span", {}, (KINDS[run.trials.kind[row]] || KINDS.candidate).mark + " " + title, flaggedHealth(run, row) ? " †" : ""),
    ...TASKS.map((task) => intervalText(task, scoreOf(run, row, source, task))), joinedText(joinedOf(run, row, source)),
  ]);
  const made = plainTable("Best found against its rivals", ["model", ...TASKS.map(taskTitle), "joined"], body, [...TASKS.map((_, i) => i + 1), TASKS.length + 1]);
  made.querySelector("tbody tr:last-child").classList.add("chosen");
  return element("div", {}, made, element("p", { class: "meaning" },
    "Scores on the " + sourceTitle(source) + " with 95 % intervals. Joined: the weighted mean of normalised scores, 0 is the base and 1 the best expert of each task.",
    TASKS.some((task) => task.larger_is_better === false) ? " Where smaller values of a metric are better its sign is turned: everywhere larger is better." : "",
    shown.some(([, row]) => flaggedHealth(run, row)) ? " †: much of the gain over the best expert is healthier answers (fewer cut off, empty or misshapen), not more knowledge." : ""));
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
      element("label", { for: "run-" + run.index, class: "run" }, radio, swatch, run.name), run.optimizer, String(run.seed), STATES[run.state] || run.state,
      count(run.trials.kind.filter((kind) => kind === "candidate").length),
      ...["worth", "selection", "report"].map((source) => (best >= 0 ? joinedText(joinedOf(run, best, source)) : NONE)),
      run.curves && run.curves.hypervolume.length ? fixed(run.curves.hypervolume[run.curves.hypervolume.length - 1], 3) : NONE,
    ];
  });
  made.append(plainTable("Runs", ["run", "optimizer", "seed", "state", "candidates", "best: search, shrunk", "selection", "report", "hypervolume"], body, [4, 5, 6, 7, 8]),
    element("p", { class: "meaning" }, "Charts show all runs; tables of one run follow the one chosen here."));
  return made;
}

function advice() {
  const all = RUNS.flatMap((run) => [...(run.notes || []), ...(run.advice || [])].map((text) => (RUNS.length > 1 ? run.name + ": " : "") + text));
  return all.length ? element("div", { class: "note" }, element("strong", {}, "Worth knowing"), element("ul", {}, all.map((text) => element("li", {}, text)))) : null;
}
