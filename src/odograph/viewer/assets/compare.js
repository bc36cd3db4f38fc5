// Several at once: the attempts of a group, and two trajectories aligned step by step.
import { badge, button, clear, figure, h, notice, seconds, tail } from "./dom.js";
import { bar } from "./charts.js";
import { get } from "./source.js";
import { changes, difference, json } from "./content.js";
import { taskOf } from "./trajectory.js";

export async function groupPage({ name, go }) {
  const found = await get(`group?name=${encodeURIComponent(name)}`);
  const components = [...new Set(found.attempts.flatMap((a) => Object.keys(a.rewards)))];
  let convention = "grpo";
  const chosen = [];
  const known = found.attempts.map((a) => a.reward).filter((r) => r !== null);
  const [low, high] = [Math.min(0, ...known), Math.max(0, ...known)];
  const table = h("div", { class: "sheet" });
  const compare = button("Compare two", () => chosen.length === 2 && go(`#/diff?a=${chosen[0]}&b=${chosen[1]}`), { class: "primary", disabled: true });
  const draw = () => clear(table, h("table", {}, h("thead", {}, h("tr", {}, ["", "Attempt", "Status", "Reward", "", "Advantage", ...components, "Steps", "Tokens out", "Took"].map((t, n) => h("th", { scope: "col", class: n > 2 && n !== 4 ? "number" : null }, t)))),
    h("tbody", {}, found.attempts.map((a) => h("tr", {},
      h("td", {}, h("input", { type: "checkbox", "aria-label": `choose ${tail(a.id)} to compare`, checked: chosen.includes(a.id), onchange: (e) => {
        if (e.target.checked) chosen.push(a.id);
        else chosen.splice(chosen.indexOf(a.id), 1);
        if (chosen.length > 2) chosen.shift();
        compare.disabled = chosen.length !== 2;
        draw();
      } })),
      h("td", {}, h("a", { href: `#/t/${a.id}` }, h("code", {}, tail(a.id))), " ", h("span", { class: "dim" }, a.model ?? "")), h("td", {}, badge(a.status)), h("td", { class: "number" }, figure(a.reward)), h("td", { class: "bar" }, bar(a.reward, low, high)),
      h("td", { class: "number" }, signedText(a.advantages[convention])), components.map((c) => h("td", { class: "number" }, figure(a.rewards[c]))), h("td", { class: "number" }, figure(a.steps)), h("td", { class: "number" }, figure(a.completion_tokens)), h("td", { class: "number" }, seconds(a.duration)))))));
  draw();
  const spread = found.known === 0 ? "no reward is known" : found.varies ? `mean ${figure(found.mean)}` : `all known rewards are ${figure(found.mean)}: every advantage is 0`;
  return {
    title: `Group ${name}`, focus: () => table.querySelector("a")?.focus(),
    element: h("main", { class: "scrolling" }, h("header", { class: "facts plain" }, h("h1", {}, name), h("p", { class: "dim" }, `${found.total} attempts, ${found.known} with a known reward; ${spread}`), h("p", {}, taskOf(found.attempts[0].task))),
      h("div", { class: "tools" }, h("label", {}, "Advantage as", h("select", { onchange: (e) => { convention = e.target.value; draw(); } }, found.conventions.map((c) => h("option", { value: c }, c)))), compare, found.attempts.length > 1 ? button("Worst against best", () => {
        const best = [...found.attempts].sort((a, b) => (b.reward ?? -Infinity) - (a.reward ?? -Infinity));
        go(`#/diff?a=${best.at(-1).id}&b=${best[0].id}`);
      }) : null), table),
  };
}

const signedText = (value) => (value === null || value === undefined ? "–" : `${value > 0 ? "+" : ""}${figure(value)}`);

export async function diffPage({ a, b, go }) {
  const found = await get(`diff?a=${encodeURIComponent(a)}&b=${encodeURIComponent(b)}`);
  const [left, right] = found.about;
  const list = h("div", { class: "pairs" });
  let all = false;
  const draw = () => clear(list, found.pairs.map((pair, n) => {
    if (!all && !pair.differs.length) return null;
    return h("section", { class: `pair${n === found.first ? " first" : ""}`, id: `pair-${n}`, tabindex: "-1" },
      h("h2", {}, pair.agent ? `${pair.agent}: ` : "", step(left, pair.a), " and ", step(right, pair.b), h("span", { class: "dim" }, pair.differs.length ? ` ${pair.differs.includes("missing") ? "only one has this step" : `differ in ${pair.differs.join(", ")}`}` : " are the same")),
      Object.entries(pair.values).map(([name, [x, y]]) => field(name, x, y)));
  }));
  draw();
  const same = found.pairs.filter((p) => !p.differs.length).length;
  return {
    title: "Difference", focus: () => list.querySelector(".first")?.focus({ preventScroll: true }),
    element: h("main", { class: "scrolling" }, h("header", { class: "facts plain" }, h("h1", {}, h("a", { href: `#/t/${left.id}` }, tail(left.id)), " and ", h("a", { href: `#/t/${right.id}` }, tail(right.id))),
      h("p", { class: "dim" }, found.first === null ? "All steps are the same." : `${same} of ${found.pairs.length} steps are the same; the first difference is in step ${found.pairs[found.first].a ?? found.pairs[found.first].b}.`)),
    h("div", { class: "tools" }, found.first !== null ? button("First difference", () => list.querySelector(".first").scrollIntoView()) : null, h("label", {}, h("input", { type: "checkbox", onchange: (e) => { all = e.target.checked; draw(); } }), "Show equal steps"), button("Swap", () => go(`#/diff?a=${b}&b=${a}`))),
    h("section", { class: "pair whole" }, Object.entries(found.whole).map(([name, [x, y]]) => field(name, x, y))), list),
  };
}

const step = (of, index) => (index === null ? "no step" : h("a", { href: `#/t/${of.id}?step=${index}` }, `step ${index}`));

function field(name, x, y) {
  const there = [x, y].every((v) => v !== null && v !== undefined && typeof v !== "number");
  return h("div", { class: "field" }, h("h3", {}, name), there ? changes(difference(said(name, x), said(name, y))) : h("div", { class: "two" }, h("div", { class: "was" }, value(x)), h("div", { class: "now" }, value(y))));
}

// A value as lines that can be compared: messages as what was said, calls as what was asked.
function said(name, value) {
  if (name === "prompt" && Array.isArray(value)) return value.map((m) => `${m?.role}: ${typeof m?.content === "string" ? m.content : pretty(m?.content)}`).join("\n\n");
  if ((name === "tool calls" || name === "actions") && Array.isArray(value)) return value.map(([tool, given]) => `${tool} ${pretty(parsed(given))}`).join("\n");
  if (name === "results" && Array.isArray(value)) return value.map((one) => (typeof one === "string" ? one : pretty(one))).join("\n");
  return typeof value === "string" ? value : pretty(value);
}

const pretty = (value) => (value === undefined ? "" : JSON.stringify(value, null, 2));

function parsed(value) {
  try {
    return typeof value === "string" ? JSON.parse(value) : value;
  } catch {
    return value;
  }
}

function value(of) {
  if (of === null || of === undefined) return h("span", { class: "dim" }, "–");
  if (typeof of === "number") return figure(of);
  return json(of);
}
