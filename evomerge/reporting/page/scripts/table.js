// All models as a table: sorted, filtered, a page at a time, and worked with the keyboard.

const PAGE = 15;

function table() {
  const made = element("div", { id: "candidates" }, element("h3", {}, "All models"));
  document.getElementById("nav").append(element("a", { href: "#candidates" }, "All models"));
  const order = { key: "rank", up: false };
  const filter = { text: "", kind: "all", front: false, run: "all" };
  let found = [], page = 0;
  const count_ = element("p", { class: "meaning", role: "status" });
  const head = element("tr"), body = element("tbody");
  const grid = element("table", { role: "grid", "aria-label": "Candidates" }, element("thead", {}, head), body);
  const pager = element("div", { class: "pager" });
  const all = RUNS.flatMap((run) => rows(run, () => true).map((row) => [run, row]));

  const columns = [
    ["number", "no.", (run, row) => run.trials.number[row], (run, row) => String(run.trials.number[row])],
    ["name", "model", (run, row) => nameOf(run, row), (run, row) => marks(run, row)],
    RUNS.length > 1 ? ["run", "run", (run) => run.name, (run) => run.name] : null,
    ["joined", JOINED, (run, row) => meanOf(joinedOf(run, row, state.source)), (run, row) => fixed(meanOf(joinedOf(run, row, state.source)), 3)],
    ...TASKS.map((task) => ["task-" + task.name, taskTitle(task), (run, row) => meanOf(scoreOf(run, row, state.source, task)), (run, row) => { const s = scoreOf(run, row, state.source, task); return s ? scoreText(task, s.mean) : NONE; }]),
  ].filter(Boolean);
  // Until the reader sorts: the best, then the front, then all others.
  const rank = (run, row) => {
    const joined = meanOf(joinedOf(run, row, state.source));
    return joined === null ? null : joined + (run.trials.best[row] ? 2e6 : run.trials.front[row] ? 1e6 : 0);
  };

  function search() {
    const text = filter.text.toLowerCase();
    const value = order.key === "rank" ? rank : columns.find(([key]) => key === order.key)[2];
    found = all.filter(([run, row]) => (filter.kind === "all" || (filter.kind === "failed" ? failed(run, row) : run.trials.kind[row] === filter.kind))
      && (!filter.front || run.trials.front[row]) && (filter.run === "all" || run.index === Number(filter.run))
      && (!text || (nameOf(run, row) + " " + run.trials.number[row] + " " + run.trials.hash[row]).toLowerCase().includes(text)));
    const keyed = found.map(([run, row]) => [value(run, row), run, row]);
    keyed.sort((a, b) => {
      if (a[0] === null || b[0] === null) return (a[0] === null) - (b[0] === null); // unknown ones last, either way
      const less = typeof a[0] === "number" ? a[0] - b[0] : String(a[0]).localeCompare(String(b[0]), "en", { numeric: true });
      return order.up ? less : -less;
    });
    found = keyed.map(([, run, row]) => [run, row]);
  }

  function place() {
    return found.findIndex(([run, row]) => run.index === state.run && row === state.row);
  }

  function show() {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.max(0, Math.min(page, pages - 1));
    replace(head, columns.map(([key, title], i) => element("th", { scope: "col", "aria-sort": order.key === key ? (order.up ? "ascending" : "descending") : "none", class: i >= columns.length - TASKS.length - 1 || i === 0 ? "number" : null },
      element("button", { type: "button", onclick: () => { order.up = order.key === key ? !order.up : ["name", "run", "number"].includes(key); order.key = key; page = 0; search(); show(); } },
        short(title, 24), order.key === key ? (order.up ? " ▲" : " ▼") : ""))));
    const shown = found.slice(page * PAGE, (page + 1) * PAGE);
    const here = shown.some(([run, row]) => run.index === state.run && row === state.row);
    grid.setAttribute("aria-rowcount", found.length + 1);
    replace(body, shown.map(([run, row], i) => {
      const chosen = run.index === state.run && row === state.row;
      return element("tr", { tabindex: chosen || (!here && i === 0) ? "0" : "-1", "aria-selected": chosen ? "true" : "false", "aria-rowindex": page * PAGE + i + 2, class: chosen ? "chosen" : null, onclick: () => pick(run, row) },
        columns.map(([, , , text], j) => element("td", { role: "gridcell", class: j >= columns.length - TASKS.length - 1 || j === 0 ? "number" : null }, text(run, row))));
    }));
    count_.textContent = plural(found.length, "model") + (found.length === all.length ? "" : " of " + count(all.length)) + ", " + sourceTitle(state.source) + ". Arrow keys move the choice.";
    const turn = (text, label, to, off) => element("button", { type: "button", "aria-label": label, disabled: off, onclick: () => { page = to; show(); } }, text);
    replace(pager, turn("«", "First page", 0, page === 0), turn("‹", "Page before", page - 1, page === 0), element("span", {}, "page " + (page + 1) + " of " + pages),
      turn("›", "Next page", page + 1, page >= pages - 1), turn("»", "Last page", pages - 1, page >= pages - 1));
  }

  function follow() {
    const at = place();
    if (at >= 0) page = Math.floor(at / PAGE);
    show();
  }

  body.addEventListener("keydown", (event) => {
    const at = Math.max(0, place() >= 0 ? place() : page * PAGE);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + PAGE, PageUp: at - PAGE, Home: 0, End: found.length - 1, Enter: at, " ": at }[event.key];
    if (to === undefined || !found.length) return;
    event.preventDefault();
    const [run, row] = found[Math.max(0, Math.min(to, found.length - 1))];
    pick(run, row);
    const line = body.querySelector("tr.chosen");
    if (line) line.focus();
  });

  const refresh = () => { page = 0; search(); show(); };
  const box = element("input", { type: "search", id: "find", placeholder: "name, number or hash", oninput: () => { filter.text = box.value; refresh(); } });
  made.append(element("div", { class: "controls" },
    element("div", { class: "control" }, element("label", { for: "find" }, "Find"), box),
    choice("Kind", [["all", "all"], ...Object.entries(KINDS).map(([kind, { title }]) => [kind, title]), ["failed", "failed"]], "all", (kind) => { filter.kind = kind; refresh(); }),
    RUNS.length > 1 ? choice("Run", [["all", "all"], ...RUNS.map((run) => [run.index, run.name])], "all", (run) => { filter.run = run; refresh(); }) : null,
    tick("on the front", false, (front) => { filter.front = front; refresh(); })),
  element("div", { class: "scroll" }, grid), element("div", { class: "under" }, count_, pager));
  on(["source"], () => { search(); follow(); });
  on(["row", "run"], follow);
  search();
  follow();
  return made;
}

function meanOf(score) {
  return score ? score.mean : null;
}

function marks(run, row) {
  const { kind, front, best, beaten_by: beaten } = run.trials;
  return [(KINDS[kind[row]] || KINDS.candidate).mark + " " + nameOf(run, row), " ", best[row] ? badge("best", "good") : front[row] ? badge("front", "front") : null,
    failed(run, row) ? badge("failed", "bad") : null, known(beaten[row]) ? badge("cut short", "warn") : null, flaggedHealth(run, row) ? " †" : null].filter(Boolean);
}
