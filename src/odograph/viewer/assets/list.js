// The list of trajectories: filters with counts, search, order, columns, groups folded; new runs appear while it is open.
import { badge, button, clear, figure, h, moment, notice, seconds, short, tail } from "./dom.js";
import { get, isFile } from "./source.js";
import { Rows } from "./rows.js";

const PAGE = 100;
const COLUMNS = {
  task: ["Task", (r) => r.task ?? "–", "wide"], status: ["Status", (r) => badge(r.status), "status"], reward: ["Reward", (r) => figure(r.reward), "number"],
  agent: ["Agent", (r) => r.agent ?? "–", ""], model: ["Model", (r) => r.model ?? "–", ""], group: ["Group", (r) => r.group ?? "–", ""],
  steps: ["Steps", (r) => figure(r.steps), "number"], llm_calls: ["Calls", (r) => figure(r.llm_calls), "number"], actions: ["Actions", (r) => figure(r.actions), "number"],
  tokens: ["Tokens", (r) => (r.prompt_tokens === null && r.completion_tokens === null ? "–" : `${short(r.prompt_tokens)}/${short(r.completion_tokens)}`), "number"],
  duration: ["Took", (r) => seconds(r.duration), "number"], started: ["Started", (r) => moment(r.started), "date"], id: ["Id", (r) => tail(r.id), "code"], tags: ["Tags", (r) => r.tags.join(", "), ""],
};
const SHOWN = ["task", "status", "reward", "agent", "model", "group", "steps", "tokens", "duration", "started"];
const FOLDED = {
  group: ["Group", (r) => r.group, "wide"], trajectories: ["Attempts", (r) => figure(r.trajectories), "number"], reward: ["Mean", (r) => figure(r.mean), "number"],
  min: ["Lowest", (r) => figure(r.min), "number"], max: ["Highest", (r) => figure(r.max), "number"], rewarded: ["Rewarded", (r) => figure(r.rewarded), "number"],
  steps: ["Steps", (r) => figure(r.steps), "number"], started: ["Newest", (r) => moment(r.started), "date"],
};
const FACETS = { status: "Status", agent: "Agent", model: "Model", tag: "Tag", group: "Group" };
const KEPT = "odograph-columns";

export function listPage({ query, go, info }) {
  const folded = query.get("fold") === "group";
  const sort = query.get("sort") ?? "-started";
  const columns = folded ? FOLDED : COLUMNS;
  const shown = folded ? Object.keys(FOLDED) : kept();
  const asked = new URLSearchParams([...query].filter(([k]) => k !== "e"));
  const pages = new Map();
  let total = 0;

  const change = (edit) => {
    const next = new URLSearchParams(query);
    edit(next);
    const text = next.toString();
    go(`#/${text ? `?${text}` : ""}`);
  };

  const words = query.get("text");
  const placeOf = (row) => `#/t/${row.id}${words ? `?q=${encodeURIComponent(words)}` : ""}`;
  const rows = new Rows({
    height: 34, label: folded ? "groups" : "trajectories",
    draw: (index) => {
      const page = pages.get(Math.floor(index / PAGE));
      if (page === undefined) want(Math.floor(index / PAGE));
      const row = page?.rows?.[index % PAGE];
      if (!row) return null;
      const to = folded ? `#/group?name=${encodeURIComponent(row.group)}` : placeOf(row);
      return h("div", { role: "row" }, shown.map((name, n) => h("div", { class: `cell c-${name} ${columns[name][2]}`, role: "gridcell" }, n === 0 ? h("a", { href: to, tabindex: "-1" }, columns[name][1](row)) : columns[name][1](row))));
    },
    open: (index) => {
      const row = pages.get(Math.floor(index / PAGE))?.rows?.[index % PAGE];
      if (row) go(folded ? `#/group?name=${encodeURIComponent(row.group)}` : placeOf(row));
    },
  });

  const count = h("span", { class: "count", "aria-live": "polite" }, "…");
  const failure = h("div");

  async function want(number, { fresh = false } = {}) {
    if (!fresh && pages.has(number)) return;
    if (!pages.has(number)) pages.set(number, { rows: null });
    const params = new URLSearchParams(asked);
    params.set("offset", number * PAGE);
    params.set("size", PAGE);
    params.set("sort", sort);
    try {
      const found = await get(`list?${params}`);
      pages.set(number, found);
      if (found.total !== total) {
        total = found.total;
        rows.fill(total);
      } else rows.refresh();
      count.textContent = `${total.toLocaleString("en")} ${folded ? "groups" : total === 1 ? "trajectory" : "trajectories"}`;
      clear(failure, total === 0 ? notice("Nothing matches these filters.") : null);
    } catch (problem) {
      pages.delete(number);
      clear(failure, notice(problem.message, "error"));
    }
  }

  const facets = h("div", { class: "facets" });
  async function fillFacets() {
    let found;
    try {
      found = await get(`counts?${asked}`);
    } catch {
      return;
    }
    clear(facets, Object.entries(FACETS).filter(([name]) => found[name]?.length || query.has(name)).map(([name, title]) => {
      const chosen = query.getAll(name);
      const values = new Map((found[name] ?? []).map(([v, n]) => [String(v), n]));
      for (const one of chosen) if (!values.has(one)) values.set(one, 0);
      return h("fieldset", {}, h("legend", {}, title), [...values].slice(0, 14).map(([value, n]) => {
        const on = chosen.includes(value);
        return button([h("span", { class: "value" }, value), h("span", { class: "n" }, n.toLocaleString("en"))], () => change((next) => {
          const others = next.getAll(name).filter((v) => v !== value);
          next.delete(name);
          if (name === "status" || name === "tag") for (const v of others) next.append(name, v);
          if (!on) next.append(name, value);
        }), { class: `facet${on ? " on" : ""}`, "aria-pressed": on, title: value });
      }));
    }));
  }

  const search = h("input", { type: "search", name: "text", placeholder: "Search all text  ( / )", "aria-label": "search all text", value: query.get("text") ?? "", autocomplete: "off" });
  const field = (name, label, placeholder) => h("label", {}, label, h("input", { name, value: query.get(name) ?? "", placeholder, autocomplete: "off", size: "7" }));
  const form = isFile ? h("div", { class: "tools" }, count) : h("form", {
    class: "tools", role: "search",
    onsubmit: (event) => {
      event.preventDefault();
      change((next) => {
        for (const [name, value] of new FormData(form)) value ? next.set(name, value) : next.delete(name);
      });
    },
  }, search, field("min_reward", "Reward from", "0"), field("max_reward", "to", "1"), field("since", "Since", "7d"), h("button", { type: "submit" }, "Apply"),
  button(folded ? "Unfold groups" : "Fold groups", () => change((next) => (next.delete("sort"), folded ? next.delete("fold") : next.set("fold", "group"))), { "aria-pressed": folded }),
  folded ? null : h("details", { class: "menu" }, h("summary", {}, "Columns"), h("div", {}, Object.entries(COLUMNS).map(([name, [title]]) => h("label", {}, h("input", {
    type: "checkbox", checked: shown.includes(name),
    onchange: (event) => {
      localStorage.setItem(KEPT, JSON.stringify(Object.keys(COLUMNS).filter((c) => (c === name ? event.target.checked : shown.includes(c)))));
      go(location.hash, { again: true });
    },
  }), title)))),
  h("a", { href: `#/over?${asked}` }, "Figures"), query.size ? button("Clear", () => go("#/")) : null, count);

  const head = h("div", { class: "row head", role: "row" }, shown.map((name) => {
    const on = sort.replace("-", "") === name;
    const sortable = folded ? ["group", "reward", "steps", "started"].includes(name) : info.columns.includes(name);
    return h("div", { class: `cell c-${name} ${columns[name][2]}`, role: "columnheader", "aria-sort": on ? (sort.startsWith("-") ? "descending" : "ascending") : null },
      sortable ? button([columns[name][0], on ? (sort.startsWith("-") ? " ↓" : " ↑") : ""], () => change((next) => next.set("sort", sort === `-${name}` ? name : `-${name}`))) : columns[name][0]);
  }));

  const element = h("main", { class: "list" },
    isFile ? null : h("aside", { "aria-label": "filters" }, facets),
    h("section", { class: `table${folded ? " folded" : ""}` }, form, failure, h("div", { class: "scroll" }, h("div", { class: "frame" }, head, rows.element))));
  element.querySelector(".frame").style.setProperty("--columns", shown.map((c) => `var(--w-${columns[c][2] || "name"})`).join(" "));
  want(0, { fresh: true }).then(() => isFile || fillFacets());  // the rows are looked at first

  let busy = false;
  return {
    element, title: "Trajectories", focus: () => rows.element.focus({ preventScroll: true }), search: () => search.focus(),
    async changed() {
      if (busy) return;
      busy = true;
      for (const number of [...pages.keys()]) {
        if (number !== 0 && Math.abs(number - Math.floor(rows.top() / rows.height / PAGE)) > 1) pages.delete(number);
        else await want(number, { fresh: true });
      }
      fillFacets();
      setTimeout(() => (busy = false), 1000);
    },
  };
}

function kept() {
  try {
    const found = JSON.parse(localStorage.getItem(KEPT)).filter((c) => c in COLUMNS);
    if (found.length) return found;
  } catch {
    // nothing was chosen, or a file from disk has no storage
  }
  return SHOWN;
}
