// What it cost.

function cost() {
  const shown = RUNS.filter((run) => run.cost);
  if (!shown.length) return;
  const made = section("cost", "Cost");
  const steps = [...new Set(shown.flatMap((run) => Object.keys(run.cost.seconds || {})))];
  const plot = chart("Seconds by step", 130 + 40 * shown.length);
  made.append(plainTable("Cost of each run", ["run", "candidates", "items", "tokens", "answers from the store", "time", "a candidate"], shown.map((run) => {
    const { seconds, items: scored, candidates } = run.cost, total = sum(Object.values(seconds || {}));
    return [run.name, count(candidates), count(sum(Object.values(scored || {}))), count(run.cost.tokens), percent(run.cost.from_store), duration(total), duration(candidates ? sum([seconds.search, seconds.merge]) / candidates : null)];
  }), [1, 2, 3, 4, 5, 6]), plot);
  const show = () => draw(plot, steps.map((step, i) => ({ type: "bar", orientation: "h", name: safe(step), y: shown.map((run) => safe(short(run.name, 24))), x: shown.map((run) => run.cost.seconds[step] || 0), marker: { color: colour(i) },
    hovertemplate: "%{x:.1f} s<extra>" + safe(step) + "</extra>" })), layout({ barmode: "stack", xaxis: axis({ title: "seconds" }), yaxis: axis({ autorange: "reversed" }), bargap: 0.4 }));
  on(["theme"], show);
  show();
}
