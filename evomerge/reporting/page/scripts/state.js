// What the reader has chosen. Views say what they want to hear of, and draw themselves anew when it changes.

const state = { run: 0, row: -1, source: SOURCES.length ? SOURCES[0][0] : "search", theme: "light" };
const listeners = { run: [], row: [], source: [], theme: [] };

function on(keys, listener) {
  keys.forEach((key) => listeners[key].push(listener));
}

function choose(changes) {
  const changed = Object.keys(changes).filter((key) => state[key] !== changes[key]);
  Object.assign(state, changes);
  new Set(changed.flatMap((key) => listeners[key])).forEach((listener) => listener());
}

function focus() {
  return RUNS[state.run];
}

// Choose a trial; its run comes into focus.
function pick(run, row) {
  choose({ run: run.index, row });
}

// Bring a run into focus, and of it the best trial.
function pickRun(index) {
  choose({ run: index, row: bestRow(RUNS[index]) });
}
