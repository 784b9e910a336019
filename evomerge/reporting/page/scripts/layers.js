// What a recipe does where: values by layer, module and expert, of one recipe, or of the front.

function layersView() {
  if (!RUNS.some((run) => Object.keys(run.recipes || {}).length)) return;
  const made = section("layers", "Layers", "What the recipe does where: its values from the embeddings (left) through the layers to the head (right), a line for each expert, and for each module where modules differ.");
  const controls = element("div", { class: "controls" }), place = element("div", {});
  made.append(controls, place);
  let shown = "chosen";
  const show = () => {
    const run = focus(), recipes = Object.keys(run.recipes || {}).filter((number) => run.recipes[number].heat);
    const options = [["chosen", "the chosen model"], ...(run.front_heat ? [["mean", "the front: mean"], ["spread", "the front: spread"]] : []),
      ...recipes.map((number) => [number, run.row.has(Number(number)) ? nameOf(run, run.row.get(Number(number))) : number])];
    if (!options.some(([key]) => key === shown)) shown = "chosen";
    replace(controls, choice("Recipe", options, shown, (value) => { shown = value; paint(); }));
    paint();
  };
  const paint = () => {
    const run = focus(), number = shown === "chosen" ? String(run.trials.number[state.row]) : shown;
    const heat = ["mean", "spread"].includes(shown) ? run.front_heat[shown] : (run.recipes[number] || {}).heat;
    if (!heat || !Object.keys(heat.parameters).length) {
      replace(place, element("p", { class: "empty" }, "No map of layers is kept for " + (shown === "chosen" ? "this model: choose one on the front, or a finalist." : "this recipe.")));
      return;
    }
    const plots = Object.keys(heat.parameters).map((parameter) => [parameter, heatLines(heat, parameter)]).filter(([, lines]) => lines.length)
      .map(([parameter, lines]) => [parameter, lines, chart(parameter + " by layer, module and expert", 110 + 26 * lines.length)]);
    replace(place, plots.map(([parameter, , plot]) => [element("h3", {}, parameter), plot]));
    plots.forEach(([parameter, lines, plot]) => drawHeat(plot, heat, parameter, lines, shown === "spread"));
    forgetCharts();
  };
  on(["run"], show);
  on(["row"], () => { if (shown === "chosen") paint(); });
  on(["theme"], paint);
  show();
}

// One line of cells an expert and module: {title, cells over the rows of the map}. A row without modules fills the cells
// of all; experts whose modules are all alike take one line.
function heatLines(heat, parameter) {
  const modules = heat.columns.filter((column) => column !== "all"), found = [];
  for (const [expert, cells] of Object.entries(heat.parameters[parameter])) {
    const owner = expert === "all" ? "" : expert;
    const at = (line, column) => {
      const i = heat.columns.indexOf(column), whole = line.length === 1 ? line[0] : line[heat.columns.indexOf("all")];
      return line.length > 1 && known(line[i]) ? line[i] : known(whole) ? whole : null;
    };
    const lines = (modules.length ? modules : ["all"]).map((column) => [column, cells.map((line) => at(line, column))]).filter(([, line]) => line.some(known));
    const alike = lines.length > 1 && lines.every(([, line]) => line.every((value, i) => value === lines[0][1][i]));
    (alike ? lines.slice(0, 1) : lines).forEach(([column, line]) => found.push({ title: [owner, alike || column === "all" ? "" : column].filter(Boolean).join(" · ") || parameter, cells: line }));
  }
  return found;
}

function drawHeat(plot, heat, parameter, lines, spread) {
  const names = heat.rows.map((row) => row.replace(/^layers\./, "").replace("embeddings", "emb")), all = lines.flatMap((line) => line.cells).filter(known);
  const low = Math.min(...all, 0), high = Math.max(...all, spread ? 0.05 : 0), signed = low < 0;
  const end = Math.max(-low, high), width = (plot.clientWidth - 200) / names.length;
  draw(plot, [{
    type: "heatmap", x: names.map((_, i) => i), y: lines.map((_, i) => i), z: lines.map((line) => line.cells), xgap: 1, ygap: 1,
    zmin: signed ? -end : 0, zmax: signed ? end : high || 1, colorscale: signed ? "RdBu" : spread ? "Greys" : "Cividis", reversescale: signed || (spread && state.theme === "light"),
    text: lines.map((line) => line.cells.map((value) => (known(value) ? fixed(value, 2) : ""))), texttemplate: width >= 34 ? "%{text}" : undefined,
    customdata: lines.map((line) => names.map((name, i) => safe(line.title + ", " + heat.rows[i]))), hovertemplate: "%{customdata}: %{z:.3f}<extra></extra>",
    showscale: plot.clientWidth > 500, colorbar: { thickness: 10, len: 1, outlinewidth: 0, tickfont: { size: 10 } },
  }], layout({
    xaxis: axis({ tickvals: names.map((_, i) => i), ticktext: ticks(names, width), showgrid: false, title: "layer", tickangle: 0 }),
    yaxis: axis({ tickvals: lines.map((_, i) => i), ticktext: lines.map((line) => safe(short(line.title, plot.clientWidth > 500 ? 24 : 14))), autorange: "reversed", showgrid: false }),
  }));
}

// The names of cells, as many as there is room for.
function ticks(names, width) {
  const step = Math.max(1, Math.ceil(26 / width));
  return names.map((name, i) => (/^\d+$/.test(name) ? Number(name) % step === 0 && (step === 1 || Number(name) > 0) : width > 38 || i === 0 || (i === names.length - 1 && width > 7)) ? safe(name) : "");
}
