// The runs of a sweep as groups that differ in the seed alone: which optimizer found better merges, and how sure is that.

function optimizers() {
  const found = DATA.comparison;
  if (!found) return;
  const made = section("optimizers", "Optimizers and seeds", "The mean of each run's best candidate over the runs that differ in the seed alone, by scores on the " + found.split + " split. Small dots are single runs. " + MEANING_OF_JOINED);
  const all = found.groups.flatMap((group) => [...group.scores, group.low, group.high]).filter(known), ends = [Math.min(...all), Math.max(...all)];
  const rows = found.groups.map((group) => [
    group.name, count(group.runs.length), stacked(group, (value) => fixed(value, 2)), withRuns(intervalBar(group, ends, found.groups[0].mean), group, ends),
    stacked(group.behind, (value) => signed(value, 2)), group.behind ? badge(...VERDICTS[group.behind.p < SURE ? "worse" : "open"]) : badge("first", "good"),
    group.behind ? figure(group.behind.p, 2) : NONE, figure(group.candidates, 4), duration(group.seconds),
  ]);
  const table = plainTable("Optimizers and seeds", ["optimizer", "runs", JOINED, "", "the first is ahead by", "", "p", "candidates a run", "scoring a run"], rows, [1, 2, 4, 6, 7, 8]);
  const single = found.groups.some((group) => group.runs.length < 2), left = found.left_out.map((place) => RUNS[place].name);
  made.append(element("div", { class: "rivals" }, table), element("p", { class: "meaning" },
    "95 % intervals for other seeds and other items of the same kind; differences item by item, p adjusted for all pairs (Holm).",
    single ? " Of a group with a single run they say nothing about other seeds." : "",
    found.split === "selection" ? " The best of a run was chosen on these very items, which flatters all of them a little." : "",
    left.length ? " Not counted, as nothing was scored there yet: " + listed(left) + "." : ""));
}

// Single runs as small dots on the track of an interval.
function withRuns(track, group, [low, high]) {
  track.append(...group.scores.map((score) => element("span", { class: "dot seed", style: { left: 100 * (high > low ? (score - low) / (high - low) : 0.5) + "%" } })));
  return track;
}
