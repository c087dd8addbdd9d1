"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const element = (tag, text, className) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text; // never as markup: names may come from anybody's run
    if (className) made.className = className;
    return made;
  };

  // Light or dark: as the system says, until the button has been pressed.
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const kept = (value) => {
    try {
      if (value) localStorage.setItem("analog-glue-theme", value);
      return localStorage.getItem("analog-glue-theme");
    } catch { return null; } // a browser may keep nothing for files
  };
  if (kept()) root.dataset.theme = kept();
  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    kept(root.dataset.theme);
  });

  // Tables: a click sorts upwards, the next downwards, the third as it was.
  const UNITS = { s: 1, min: 60, h: 3600, day: 86400, week: 604800, month: 2592000, year: 31536000 };
  const key = (text) => {
    const time = /^([\d.]+) (s|min|h|day|week|month|year)s?\*?$/.exec(text);
    if (time) return Number(time[1]) * UNITS[time[2]];
    const number = /^[≈± ]*([+−-]?)(\d[\d,]*(?:\.\d+)?)/.exec(text);
    return number ? Number(number[2].replaceAll(",", "")) * (number[1] && number[1] !== "+" ? -1 : 1) : NaN;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (before === "descending") return body.append(...original);
      head.setAttribute("aria-sort", before ? "descending" : "ascending");
      const sign = before ? -1 : 1;
      const keyed = original.map((row) => {
        const text = row.cells[column].textContent.trim();
        return { row, text, number: key(text) };
      });
      keyed.sort((a, b) => { // numbers before words before what is missing, in both directions
        const [empty, other] = [a, b].map((one) => one.text === "" || one.text === "–");
        if (empty || other) return empty - other;
        const [words, more] = [a, b].map((one) => Number.isNaN(one.number));
        if (words !== more) return words - more;
        return sign * (words ? a.text.localeCompare(b.text, "en") : a.number - b.number);
      });
      body.append(...keyed.map((one) => one.row));
    }));
  }

  // A number leads to its run, #run-3, or to several, #runs-5, so that such a link can be kept and sent.
  const packed = read("data-runs");
  const dialog = document.getElementById("run");
  const pairs = (entries) => {
    const table = element("table");
    for (const [name, value] of entries) {
      const row = table.insertRow();
      row.append(element("th", name));
      row.append(element("td", value));
    }
    return table;
  };
  const shown = (number, open) => {
    const [name, sweep, folder, status, command, facts, chosen] = packed.runs[number];
    const all = packed.keys.map((name, place) => [name, packed.values[chosen[place]]]).filter(([, value]) => value !== undefined);
    const part = element("details");
    part.open = open;
    part.append(element("summary", folder === "." ? name : folder));
    part.append(element("p", `${sweep ? `sweep ${sweep} of ` : ""}${name}: ${status}`, "note"));
    part.append(element("h4", "Command"), element("pre", command));
    part.append(element("h4", "What it ran on"), pairs(Object.entries(facts)));
    part.append(element("h4", "Settings"), pairs(all));
    return part;
  };
  const follow = () => {
    const named = /^#(runs?)-(\d+)$/.exec(location.hash);
    const numbers = named && (named[1] === "run" ? [Number(named[2])] : packed.sets[named[2]]);
    if (!numbers || !packed.runs[numbers[0]]) return dialog.open && dialog.close();
    const inside = dialog.lastElementChild;
    inside.replaceChildren(element("h3", numbers.length === 1 ? "The run of this number" : `The ${numbers.length} runs of this number`));
    numbers.forEach((number) => inside.append(shown(number, numbers.length <= 2)));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  };
  dialog.addEventListener("close", () => {
    if (/^#runs?-/.test(location.hash)) history.replaceState(null, "", location.pathname + location.search);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  window.addEventListener("hashchange", follow);
  document.addEventListener("click", (event) => { // the same number twice changes no hash
    const link = event.target.closest && event.target.closest('a[href^="#run-"], a[href^="#runs-"]');
    if (!link) return;
    event.preventDefault();
    history.replaceState(null, "", link.getAttribute("href"));
    follow();
  });
  follow();

  const lines = [...document.querySelectorAll("#runs tbody tr")];
  document.getElementById("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    lines.forEach((line) => { line.hidden = !line.textContent.toLowerCase().includes(wanted); });
  });

  // Charts: those in sight first, the others while nothing else is to be done, so that a print has all of them.
  const specifications = read("data-charts");
  const config = {
    background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
    axis: { labelFontSize: 11, titleFontSize: 12, titleFontWeight: 400, labelOverlap: true, tickCount: 5 },
    axisX: { grid: false },
  };
  const plots = [...document.querySelectorAll(".plot")];
  const pending = new Set(plots);
  const draw = (plot) => {
    if (!pending.delete(plot)) return Promise.resolve();
    const { labels, ...drawn } = specifications[plot.dataset.chart];
    for (const part of [drawn, ...drawn.layer]) part.data?.values.forEach((one) => { one.l = labels[one.k]; });
    const specification = { width: "container", autosize: { type: "fit", contains: "padding" }, config, ...drawn };
    return window.vegaEmbed(plot, specification, { mode: "vega-lite", renderer: "svg", actions: false })
      .then(() => { plot.dataset.drawn = "yes"; })
      .catch((error) => { plot.textContent = `This chart could not be drawn: ${error.message}`; });
  };
  const watcher = new IntersectionObserver((seen) => {
    seen.filter((one) => one.isIntersecting).forEach((one) => { watcher.unobserve(one.target); draw(one.target); });
  }, { rootMargin: "300px" });
  plots.forEach((plot) => watcher.observe(plot));
  const idle = window.requestIdleCallback || ((task) => setTimeout(task, 50));
  const rest = () => {
    const next = plots.find((plot) => pending.has(plot) && plot.clientWidth > 0);
    if (next) draw(next).then(() => idle(rest));
    else root.dataset.ready = "yes";
  };
  idle(rest);
})();
