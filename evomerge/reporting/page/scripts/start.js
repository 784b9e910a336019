// Put the views on the page.

document.getElementById("tools").append(themeSwitch());
if (RUNS.length) {
  pickRun(0);
  [glance, optimizers, front, preference, progress, layersView, importance, items, health, cost].forEach((show) => show());
} else {
  document.getElementById("main").append(element("h1", {}, DATA.title), element("p", { class: "empty" }, "There is no run in this report."));
}
document.getElementById("foot").append("evomerge " + DATA.evomerge + ". This file holds all it shows; it asks nothing of any server. Charts by plotly.js (MIT).");
document.documentElement.dataset.ready = "yes";
