// What it cost.

function cost() {
  const shown = RUNS.filter((run) => run.cost);
  if (!shown.length) return;
  section("cost", "Cost", "Time is that of merging and scoring, added up over all workers.").append(plainTable("Cost of each run",
    ["run", "candidates", "items", "tokens", ...SPLITS.map((split) => split + " split"), "time in all", "time a candidate"], shown.map((run) => {
      const { seconds, items: scored, candidates, tokens } = run.cost;
      const times = run.trials.seconds.filter((value, row) => run.trials.kind[row] === "candidate" && known(value));
      return [run.name, count(candidates), count(total(Object.values(scored || {}))), count(tokens), ...SPLITS.map((split) => duration((seconds || {})[split])), duration(total(Object.values(seconds || {}))),
        times.length ? duration(total(times) / times.length) : NONE];
    }), [1, 2, 3, 4, 5, 6, 7, 8]));
}
