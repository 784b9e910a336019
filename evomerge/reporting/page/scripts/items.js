// Item by item against the best parent: what was won, what was lost, and the texts of some.

function items() {
  if (!RUNS.some((run) => (run.wins || []).length)) return;
  const made = section("items", "Item by item", "Items on which a merge scores higher than the best expert of the task (won) or lower (lost). A merge that wins and loses many has forgotten some of what the expert knows, even where the scores are alike.");
  const title = element("h3", {}), controls = element("div", { class: "controls" }), plot = chart("Items won and lost against the best expert", 320), place = element("div", {});
  made.append(title, controls, plot, place);
  let at = 0, only = "all", wins = [];
  // The model that is chosen, where its items are kept; the split farthest from the search first.
  const show = () => {
    const number = focus().trials.number[state.row];
    wins = (focus().wins || []).filter((win) => win.trial === number).sort((a, b) => SPLITS.indexOf(b.split) - SPLITS.indexOf(a.split));
    at = 0;
    title.textContent = wins.length ? nameOf(focus(), state.row) : "";
    replace(controls, wins.length ? [choice("Texts of", wins.map((win, i) => [i, win.task + ", " + win.split + ", against " + win.parent]), at, (value) => { at = Number(value); paint(); }),
      choice("Items", [["all", "all"], ["won", "won"], ["lost", "lost"]], only, (value) => { only = value; paint(); })] : element("p", { class: "empty" }, "Nothing is kept of the chosen model: choose a merge on the front, or a finalist."));
    paint();
  };
  const paint = () => {
    plot.hidden = !wins.length;
    replace(place, wins.length ? examplesOf(wins[at], only) : null);
    if (wins.length) drawWins(plot, wins);
  };
  on(["run", "row"], show);
  on(["theme"], paint);
  show();
}

// Scores that are no shares know no right and wrong.
const EQUAL = TASKS.every((task) => task.share) ? ["both right", "both wrong"] : ["equal, above 0", "equal, 0 or below"];
const FATES = [["won", "won", 2], ["both", EQUAL[0], 0], ["neither", EQUAL[1], null], ["lost", "lost", 1]];

function drawWins(plot, wins) {
  plot.style.height = 130 + 34 * wins.length + "px";
  const names = wins.map((win) => safe(short(win.task, 20) + ", " + win.split));
  draw(plot, FATES.map(([key, title, index]) => ({
    type: "bar", orientation: "h", name: title, y: names, x: wins.map((win) => win[key]), text: wins.map((win) => (win[key] ? String(win[key]) : "")), textposition: "inside", insidetextanchor: "middle", textangle: 0, constraintext: "none",
    textfont: { color: key === "won" || key === "lost" ? ink("card") : ink("ink") },
    marker: { color: key === "won" || key === "lost" ? colour(index) : faded(index === null ? ink("faint") : colour(index)), pattern: key === "lost" ? { shape: "/", size: 9, solidity: 0.15, fgcolor: ink("card"), fillmode: "overlay" } : undefined }, hovertemplate: title + ": %{x}<extra>%{y}</extra>",
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
