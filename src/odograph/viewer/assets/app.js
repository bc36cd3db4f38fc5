// The page: which view the address asks for, keys, themes, what is said.
import { button, clear, h, notice } from "./dom.js";
import { follow, get, isFile, Problem } from "./source.js";
import { listPage } from "./list.js";
import { dialog, labelsFile, trajectoryPage } from "./trajectory.js";
import { diffPage, groupPage } from "./compare.js";
import { overPage } from "./figures.js";
import { labelsPage } from "./labels.js";
import { queuePage } from "./queue.js";

const KEYS = [
  ["j  k", "next and previous entry, or row"], ["n  p", "next and previous step"], ["e  E", "next and previous failure"], ["/", "search"], ["Enter", "open; next hit in a search"],
  ["c", "copy an entry as Markdown"], ["o", "the raw JSON of an entry"], ["a", "label an entry"], ["m", "the slowest"], ["s", "steps"], ["g", "the list"], ["t", "light or dark"], ["?", "these keys"], ["Esc", "close"],
];

let current = null;
let turn = 0;
let info = { right: "read", columns: [], states: [] };

// the token is in a cookie now; out of the address bar and the history with it
if (new URLSearchParams(location.search).has("token")) history.replaceState(null, "", location.pathname + location.hash);

const said = h("div", { class: "said", role: "status", "aria-live": "polite" });
let quiet = 0;
function say(text) {
  said.textContent = text;
  said.classList.add("shown");
  clearTimeout(quiet);
  quiet = setTimeout(() => said.classList.remove("shown"), 2600);
}

// what nobody waits for, such as a search or a copy
addEventListener("unhandledrejection", (event) => {
  if (!(event.reason instanceof Problem)) return;
  event.preventDefault();
  say(event.reason.message);
});

const crumbs = h("nav", { class: "crumbs", "aria-label": "place" });
const place = h("div", { class: "page" });
const label = h("a", { href: "#/label", hidden: true }, "Label");
const save = button("Save labels", () => {
  const url = URL.createObjectURL(new Blob([labelsFile()], { type: "application/jsonl" }));
  const link = h("a", { href: url, download: "odograph-labels.jsonl" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}, { class: "primary", hidden: true });
document.addEventListener("labels", (event) => {
  save.hidden = false;
  save.textContent = `Save ${event.detail} label${event.detail > 1 ? "s" : ""}`;
});
document.body.append(
  h("header", { class: "top" }, h("a", { class: "brand", href: "#/" }, "Odograph"), crumbs, h("span", { class: "spring" }), label, save, button("Theme", theme, { "aria-label": "light or dark" }), button("Keys  ( ? )", help)),
  place, said);

// in a frame of a notebook (about:srcdoc) a link to a place would lead to that place of the notebook
if (location.protocol === "about:") {
  document.addEventListener("click", (event) => {
    const to = event.target.closest?.("a[href^='#']")?.getAttribute("href");
    if (!to || event.defaultPrevented) return;
    event.preventDefault();
    go(to);
  });
}

function go(hash, { again = false } = {}) {
  if (location.hash === hash || again) route();
  else location.hash = hash;
}

async function route() {
  const mine = ++turn;
  const [path, search = ""] = location.hash.replace(/^#/, "").split("?");
  const query = new URLSearchParams(search);
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  const given = { query, go, info, say };
  place.ariaBusy = "true";
  let page;
  try {
    if (parts[0] === "t" && parts[1]) page = await trajectoryPage({ ...given, id: parts[1], view: parts[2] ?? "" });
    else if (parts[0] === "group") page = await groupPage({ ...given, name: query.get("name") ?? "" });
    else if (parts[0] === "diff") page = await diffPage({ ...given, a: query.get("a") ?? "", b: query.get("b") ?? "" });
    else if (parts[0] === "over") page = await overPage(given);
    else if (parts[0] === "labels") page = await labelsPage(given);
    else if (parts[0] === "label") page = await queuePage(given);
    else page = listPage(given);
  } catch (problem) {
    page = { element: notice(problem.message, "error"), title: "Odograph" };
  }
  if (mine !== turn) return;
  current = page;
  clear(place, page.element);
  document.title = `${page.title.slice(0, 60)} · Odograph`;
  clear(crumbs, h("a", { href: "#/" }, info.store ?? "store"), parts.length ? [h("span", { "aria-hidden": "true" }, " / "), parts[0] === "t" ? h("code", {}, parts[1].slice(-8)) : parts[0] === "group" ? query.get("name") : ({ over: "figures", labels: "labels", label: "label" })[parts[0]] ?? "difference"] : "");
  await page.ready;
  if (mine !== turn) return;
  place.ariaBusy = "false";
  if (!document.querySelector("dialog[open]") && (document.activeElement === document.body || document.activeElement === null)) page.focus?.();
}

function theme() {
  const dark = (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("odograph-theme", document.documentElement.dataset.theme);
  } catch {
    // a file from disk may have no storage
  }
  document.dispatchEvent(new Event("themechange"));
}

function help() {
  dialog("Keys", h("dl", { class: "keys" }, KEYS.map(([key, what]) => [h("dt", {}, key.split("  ").map((k) => [h("kbd", {}, k), " "])), h("dd", {}, what)])));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const writing = event.target.closest("input, textarea, select");
  if (writing || document.querySelector("dialog[open]")) {
    if (event.key === "Escape" && writing && !writing.closest("dialog")) current?.focus?.();
    return;
  }
  const keys = { "?": help, t: theme, g: () => go("#/"), "/": () => current?.search?.() };
  if (current?.key?.(event)) event.preventDefault();
  else if (event.key in keys) {
    event.preventDefault();
    keys[event.key]();
  }
});

async function start() {
  try {
    document.documentElement.dataset.theme = localStorage.getItem("odograph-theme") ?? "";
  } catch {
    // as the system has it
  }
  if (!document.documentElement.dataset.theme) delete document.documentElement.dataset.theme;
  addEventListener("hashchange", route);
  try {
    info = await get("info");
    label.hidden = !info.rubric;
  } catch (problem) {
    return clear(place, notice(problem.message, "error"));
  }
  if (!location.hash && info.home && info.home !== "#/") location.hash = info.home;
  else await route();
  let held = new Set();
  let waiting = 0;
  follow((ids) => {
    held = held.union(ids);
    if (!waiting) {
      waiting = setTimeout(() => {
        waiting = 0;
        const all = held;
        held = new Set();
        current?.changed?.(all);
      }, 300);
    }
  });
}

start();
