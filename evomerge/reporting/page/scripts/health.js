// What went wrong: unsound answers, gains that are health, candidates that failed.

function health() {
  const flags = RUNS.flatMap((run) => (run.flags || []).map((flag) => [run, flag])), failures = RUNS.flatMap((run) => (run.failures || []).map((failure) => [run, failure]));
  const made = section("health", "Health and failures");
  const many = RUNS.length > 1, lead = (run) => (many ? [run.name] : []);
  made.append(element("h3", {}, "Flags"), flags.length
    ? plainTable("Health flags", ["model", ...(many ? ["run"] : []), "task", "split", "what"], flags.map(([run, flag]) => [toTrial(run, flag.trial), ...lead(run), flag.task || NONE, flag.split || NONE, flag.text]))
    : element("p", { class: "empty" }, "Nothing was flagged: few answers are unsound, and no gain is mostly health."));
  made.append(element("h3", {}, "Failures"), failures.length
    ? plainTable("Failures by class", ["class", ...(many ? ["run"] : []), "how many", "for example"], failures.map(([run, failure]) => [failure.kind, ...lead(run), count(failure.count), failure.example || NONE]), [many ? 2 : 1])
    : element("p", { class: "empty" }, "No candidate failed."));
}

// A button that chooses a trial.
function toTrial(run, number) {
  const row = run.row.get(number);
  return row === undefined ? String(number) : element("button", { type: "button", class: "link", onclick: () => { pick(run, row); document.getElementById("front").scrollIntoView(); } }, nameOf(run, row));
}
