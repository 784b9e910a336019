// Making elements. Texts become text nodes, never HTML: nothing in the data is trusted.

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "style") Object.entries(value).forEach(([k, v]) => made.style.setProperty(k, v));
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined).map(asNode));
  return made;
}

function asNode(child) {
  return child instanceof Node ? child : document.createTextNode(String(child));
}

function replace(target, ...children) {
  target.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined).map(asNode));
  return target;
}

// A section of the report with a heading, a line on what it shows, and a link in the bar.
function section(id, title, meaning) {
  const made = element("section", { id, "aria-labelledby": id + "-title" },
    element("h2", { id: id + "-title" }, title), meaning ? element("p", { class: "meaning" }, meaning) : null);
  document.getElementById("main").append(made);
  document.getElementById("nav").append(element("a", { href: "#" + id }, title));
  return made;
}

let labels = 0;

// A labelled <select>; `options` are [value, text] pairs.
function choice(label, options, chosen, changed) {
  const id = "choice-" + ++labels;
  const select = element("select", { id, onchange: () => changed(select.value) },
    options.map(([value, text]) => element("option", { value, selected: String(value) === String(chosen) }, text)));
  const made = element("div", { class: "control" }, element("label", { for: id }, label), select);
  made.select = select;
  return made;
}

function tick(label, on, changed) {
  const box = element("input", { type: "checkbox", checked: on, onchange: () => changed(box.checked) });
  return element("label", { class: "control tick" }, box, " ", label);
}

function badge(text, kind) {
  return element("span", { class: "badge " + (kind || "") }, text);
}

// A command or a text that one wants to take along.
function copyable(text, label) {
  const button = element("button", { type: "button", class: "copy", "aria-label": "Copy " + label, onclick: () => copy(text, button) }, "Copy");
  // The words of a command stay whole where its line breaks.
  const shown = text.includes("\n") ? text : text.split(/( )/).map((word) => (word === " " ? word : element("span", { class: "word" }, word)));
  return element("div", { class: "copyable" }, element("pre", { tabindex: "0", "aria-label": label }, shown), button);
}

function copy(text, button) {
  const done = () => {
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1200);
  };
  // A page that was opened as a file may have no clipboard object.
  if (navigator.clipboard && window.isSecureContext) navigator.clipboard.writeText(text).then(done, () => copyBySelection(text, done));
  else copyBySelection(text, done);
}

function copyBySelection(text, done) {
  const area = element("textarea", { class: "offscreen" });
  area.value = text;
  document.body.append(area);
  area.select();
  if (document.execCommand("copy")) done();
  area.remove();
}

// A plain table: header texts, rows of texts or nodes; `numeric` columns are right-aligned.
function plainTable(caption, header, rows, numeric) {
  const right = (i) => (numeric && numeric.includes(i) ? "number" : null);
  return element("div", { class: "scroll" }, element("table", {},
    element("caption", { class: "offscreen" }, caption),
    element("thead", {}, element("tr", {}, header.map((text, i) => element("th", { scope: "col", class: right(i) }, text)))),
    element("tbody", {}, rows.map((row) => element("tr", {}, row.map((cell, i) =>
      i === 0 ? element("th", { scope: "row" }, cell) : element("td", { class: right(i) }, cell)))))));
}
