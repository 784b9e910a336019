// Numbers as text.

const NONE = "–";
const JOINED = "mean normalised";
const MEANING_OF_JOINED = "Mean normalised: the weighted mean over tasks on a scale where the base's search score is 0 and the best expert's 1.";
const MEANING_OF_SHRUNK = "Shrunk: search scores of many candidates are drawn towards their mean, which takes out most of the luck of the best of many.";

function known(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function figure(value, digits) {
  if (!known(value)) return NONE;
  const text = Number(value.toPrecision(digits || 3));
  return (Math.abs(text) >= 1e5 || (text !== 0 && Math.abs(text) < 1e-4) ? text.toExponential(2) : String(text)).replace("-", "\u2212");
}

function fixed(value, places) {
  return known(value) ? value.toFixed(places).replace(/^-(?=[0.]*$)/, "").replace("-", "\u2212") : NONE;
}

function signed(value, places) {
  return known(value) && value > 0 ? "+" + fixed(value, places) : fixed(value, places);
}

function scoreText(task, value) {
  return task.share ? fixed(100 * value, 1) : figure(value, 4);
}

function unitOf(task) {
  return task.share ? "\u00a0%" : "";
}

function taskTitle(task) {
  return task.name + unitOf(task);
}

function intervalText(task, score) {
  if (!score || !known(score.mean)) return NONE;
  if (!known(score.low) || !known(score.high)) return scoreText(task, score.mean);
  return scoreText(task, score.mean) + " [" + scoreText(task, score.low) + ", " + scoreText(task, score.high) + "]";
}

// A mean with its interval below.
function stacked(score, text) {
  if (!score) return NONE;
  return [element("span", {}, text(score.mean)), known(score.low) ? element("span", { class: "interval" }, text(score.low) + " to " + text(score.high)) : null];
}

function joinedText(score) {
  if (!score || !known(score.mean)) return NONE;
  if (!known(score.low) || !known(score.high)) return fixed(score.mean, 2);
  return fixed(score.mean, 2) + " [" + fixed(score.low, 2) + ", " + fixed(score.high, 2) + "]";
}

function duration(seconds) {
  if (!known(seconds)) return NONE;
  if (seconds < 1) return figure(seconds, 2) + " s";
  if (seconds < 90) return fixed(seconds, seconds < 10 ? 1 : 0) + " s";
  if (seconds < 5400) return fixed(seconds / 60, 1) + " min";
  if (seconds < 172800) return fixed(seconds / 3600, 1) + " h";
  return fixed(seconds / 86400, 1) + " days";
}

function count(value) {
  return known(value) ? value.toLocaleString("en").replaceAll(",", "\u202f") : NONE;
}

function percent(value, places) {
  return known(value) ? fixed(100 * value, places === undefined ? 0 : places) + " %" : NONE;
}

function plural(n, word) {
  return count(n) + " " + word + (n === 1 ? "" : "s");
}

// A word as a shell reads it back.
function shellWord(text) {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : "'" + text.replaceAll("'", "'\\''") + "'";
}
