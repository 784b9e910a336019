// Light and dark: as the system has it, until the reader says otherwise. Paper is always light.

const darkSystem = window.matchMedia("(prefers-color-scheme: dark)");
let wanted = remembered() || "auto";

function remembered() {
  try { return localStorage.getItem("evomerge-theme"); } catch { return null; } // a page opened as a file may have no storage
}

function remember(theme) {
  try { localStorage.setItem("evomerge-theme", theme); } catch { /* then it is chosen anew next time */ }
}

function applyTheme(theme) {
  document.documentElement.dataset.theme = theme;
  choose({ theme });
}

function systemTheme() {
  return wanted === "auto" ? (darkSystem.matches ? "dark" : "light") : wanted;
}

function themeSwitch() {
  darkSystem.addEventListener("change", () => applyTheme(systemTheme()));
  window.addEventListener("beforeprint", () => { applyTheme("light"); resizeCharts(700); });
  window.addEventListener("afterprint", () => { applyTheme(systemTheme()); resizeCharts(null); });
  applyTheme(systemTheme());
  const made = choice("Theme", [["auto", "as the system"], ["light", "light"], ["dark", "dark"]], wanted, (theme) => {
    wanted = theme;
    remember(theme);
    applyTheme(systemTheme());
  });
  made.select.id = "theme";
  made.querySelector("label").htmlFor = "theme";
  return made;
}
