// Item by item against the best parent: what was won, what was lost, and the texts of some.

function items() {
  if (!RUNS.some((run) => (run.wins || []).length)) return;
  const made = section("items", "Item by item", "Items that a merge answers right and the best parent does not (won), and the other way round (lost). Few items moving both ways is a better merge than many.");
  const controls = element("div", { class: "controls" }), plot = chart("Items won and lost against the best parent", 320), place = element("div", {});
  made.append(controls, plot, place);
  let at = 0, only = "all";
  const titleOf = (run, win) => (run.row.has(win.trial) ? nameOf(run, run.row.get(win.trial)) : String(win.trial)) + ", " + win.task + ", " + win.split + ", against " + win.parent;
  const show = () => {
    const wins = focus().wins || [];
    const mine = wins.findIndex((win) => win.trial === focus().trials.number[state.row]);
    at = mine >= 0 ? mine : Math.min(at, Math.max(0, wins.length - 1));
    replace(controls, wins.length ? [choice("Comparison", wins.map((win, i) => [i, titleOf(focus(), win)]), at, (value) => { at = Number(value); paint(); }),
      choice("Items", [["all", "all"], ["won", "won"], ["lost", "lost"]], only, (value) => { only = value; paint(); })] : element("p", { class: "empty" }, "Nothing to compare in this run."));
    paint();
  };
  const paint = () => {
    const run = focus(), wins = run.wins || [], win = wins[at];
    plot.hidden = !win;
    replace(place, win ? examplesOf(win, only) : null);
    if (win) drawWins(plot, run, wins.filter((other) => other.trial === win.trial));
  };
  on(["run", "row"], show);
  on(["theme"], paint);
  show();
}

const FATES = [["won", "won", 2], ["both", "both right", 0], ["neither", "neither right", null], ["lost", "lost", 1]];

function drawWins(plot, run, wins) {
  plot.style.height = 130 + 34 * wins.length + "px";
  const names = wins.map((win) => safe(short(win.task, 20) + ", " + win.split));
  draw(plot, FATES.map(([key, title, index]) => ({
    type: "bar", orientation: "h", name: title, y: names, x: wins.map((win) => win[key]), text: wins.map((win) => (win[key] ? String(win[key]) : "")), textposition: "inside", insidetextanchor: "middle", textangle: 0,
    marker: { color: index === null ? ink("faint") : colour(index), opacity: key === "won" || key === "lost" ? 0.95 : 0.4, pattern: key === "lost" ? { shape: "/", size: 9, solidity: 0.15, fgcolor: ink("card"), fillmode: "overlay" } : undefined }, hovertemplate: title + ": %{x}<extra>%{y}</extra>",
  })), layout({ barmode: "stack", xaxis: axis({ title: "items" }), yaxis: axis({ autorange: "reversed" }), bargap: 0.3 }));
}

function examplesOf(win, only) {
  const fate = (example) => (example.mine_score > example.parents_score ? "won" : example.mine_score < example.parents_score ? "lost" : "even");
  const shown = (win.examples || []).filter((example) => only === "all" || fate(example) === only);
  if (!shown.length) return element("p", { class: "empty" }, "No texts are kept here" + (only === "all" ? "." : " for items " + only + "."));
  return shown.map((example, i) => element("details", { class: "example", open: i === 0 },
    element("summary", {}, badge(fate(example), { won: "good", lost: "bad", even: "" }[fate(example)]), " item " + example.item + " ", element("span", { class: "dim" }, short(lastLine(example.prompt), 90))),
    text("prompt", example.prompt), text("target", example.target),
    element("div", { class: "pair" }, text("this merge: " + figure(example.mine_score), example.mine), text(win.parent + ": " + figure(example.parents_score), example.parents))));
}

function lastLine(prompt) {
  const lines = String(prompt === null || prompt === undefined ? "" : prompt).trim().split("\n").filter((line) => line.trim().length > 12);
  return lines.length ? lines[lines.length - 1] : "";
}

function text(title, content) {
  return content === null || content === undefined ? null : element("div", {}, element("div", { class: "card-title" }, title), element("pre", { tabindex: "0" }, content));
}
