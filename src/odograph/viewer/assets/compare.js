// Several at once: the attempts of a group, and two trajectories aligned step by step.
import { badge, button, clear, figure, h, notice, seconds, tail } from "./dom.js";
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

function bar(value, low, high) {
  const made = h("div", { class: "track" });
  if (value === null || high === low) return made;
  const zero = (0 - low) / (high - low);
  const at = (value - low) / (high - low);
  const part = h("div", { class: value < 0 ? "part down" : "part up" });
  part.style.insetInlineStart = `${Math.min(zero, at) * 100}%`;
  part.style.width = `${Math.abs(at - zero) * 100}%`;
  made.append(part);
  return made;
}

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

// Over many: rewards with intervals by any part, by component and over time; what validation finds, each with a way to its place.
export async function overPage({ query, go }) {
  const by = query.get("by") ?? "model";
  const filters = new URLSearchParams([...query].filter(([k]) => !["by", "fold", "sort"].includes(k)));
  const asked = new URLSearchParams(filters);
  asked.set("by", by);
  const found = await get(`figures?${asked}`);
  const change = (value) => {
    const next = new URLSearchParams(filters);
    next.set("by", value);
    go(`#/over?${next}`);
  };
  const all = [...found.parts.map((p) => [p.reward_interval?.[0] ?? p.reward_mean, p.reward_interval?.[1] ?? p.reward_mean]), ...found.over_time.map((o) => [o.interval?.[0] ?? o.mean, o.interval?.[1] ?? o.mean]), ...Object.values(found.components).map((c) => [c.interval?.[0] ?? c.mean, c.interval?.[1] ?? c.mean])].flat().filter((v) => typeof v === "number");
  const [low, high] = [Math.min(0, ...all), Math.max(0, ...all)];
  const rows = (items) => items.map(([name, n, unknown, mean, range, method, more]) => h("tr", {}, h("td", {}, name), h("td", { class: "number" }, figure(n)), h("td", { class: "number" }, unknown ? figure(unknown) : ""), h("td", { class: "number" }, figure(mean)),
    h("td", {}, spread(mean, range, low, high)), h("td", { class: "number dim" }, range ? `${figure(range[0])} to ${figure(range[1])}` : "no interval"), h("td", { class: "number" }, more ?? ""), h("td", { class: "dim" }, method ?? "")));
  const table = (title, items, last = "") => items.length ? h("section", {}, h("h2", {}, title), h("div", { class: "sheet" }, h("table", {}, h("thead", {}, h("tr", {}, [["", ""], ["Rewarded", "number"], ["Unknown", "number"], ["Mean", "number"], ["", ""], [`${Math.round(found.confidence * 100)} % interval`, "number"], [last, "number"], ["Method", ""]].map(([t, c]) => h("th", { class: c, scope: "col" }, t)))), h("tbody", {}, rows(items))))) : null;
  const filter = { group: "group", agent: "agent", model: "model", status: "status", tag: "tag", policy_version: "policy_version" }[by];
  const to = (key) => {
    if (!filter || key === null) return key ?? "none";
    const next = new URLSearchParams(filters);
    next.set(filter, key);
    return h("a", { href: `#/?${next}` }, String(key));
  };
  const findings = h("section", {}, h("h2", {}, "Findings"), button("Validate", async (event) => {
    event.target.disabled = true;
    event.target.textContent = "Validating …";
    try {
      showFindings(await get(`findings?${filters}`));
    } catch (problem) {
      findings.append(notice(problem.message, "error"));
    }
  }));
  function showFindings(report) {
    const counts = Object.entries(report.counts).sort((a, b) => b[1] - a[1]);
    clear(findings, h("h2", {}, "Findings"), h("p", { class: "dim" }, `${figure(report.checked)} of ${figure(report.of)} trajectories were checked, the newest first; ${report.valid ? "no errors" : "there are errors"}${counts.length ? `: ${counts.map(([code, n]) => `${code} ${n}`).join(", ")}` : ""}`),
      h("div", { class: "sheet" }, h("table", {}, h("tbody", {}, report.findings.slice(0, 500).map((one) => h("tr", {}, h("td", { class: one.severity === "error" ? "bad" : "warn" }, one.severity), h("td", {}, h("code", {}, one.code)),
        h("td", {}, one.trajectory ? h("a", { href: placeOf(one) }, tail(one.trajectory)) : "store"), h("td", { class: "said" }, one.message)))))));
  }
  return {
    title: "Figures", focus: () => {},
    element: h("main", { class: "scrolling" }, h("header", { class: "facts plain" }, h("h1", {}, "Figures"), h("p", { class: "dim" }, `${figure(found.trajectories)} trajectories, ${figure(found.rewarded)} with a known reward, ${figure(found.reward_null)} with an unknown one; mean ${figure(found.reward_mean)}${found.reward_interval ? `, ${figure(found.reward_interval[0])} to ${figure(found.reward_interval[1])}` : ""}${filters.size ? ` · only ${[...filters].map(([k, v]) => `${k} ${v}`).join(", ")}` : ""}`)),
      h("div", { class: "tools" }, h("label", {}, "By", h("select", { onchange: (e) => change(e.target.value) }, ["model", "agent", "policy_version", "group", "tag", "status", "day", "hour"].map((b) => h("option", { value: b, selected: b === by }, b.replace("_", " "))))), h("a", { href: `#/?${filters}` }, "The list")),
      h("div", { class: "over" },
        table(`Reward by ${by.replace("_", " ")}`, found.parts.slice(0, 100).map((p) => [to(p.key), p.rewarded, p.reward_null, p.reward_mean, p.reward_interval, p.reward_method, `${Math.round(100 * p.completed_rate)} %`]), "Completed"),
        table("By component, before weights", Object.entries(found.components).map(([name, c]) => [name, c.n, c.null, c.mean, c.interval, c.method])),
        found.over_time.length > 1 ? table(`Over time, by ${found.span}`, found.over_time.map((o) => [o.from.slice(0, 16).replace("T", " "), o.n, o.null, o.mean, o.interval, o.method])) : null,
        findings)),
  };
}

function spread(mean, range, low, high) {
  const box = h("div", { class: "spread", role: "img", "aria-label": range ? `${figure(mean)}, from ${figure(range[0])} to ${figure(range[1])}` : figure(mean) }, h("div", { class: "axis" }));
  if (typeof mean !== "number" || high === low) return box;
  const at = (v) => `${(100 * (Math.max(low, Math.min(high, v)) - low)) / (high - low)}%`;
  if (range) {
    const part = h("div", { class: "range" });
    part.style.insetInlineStart = at(range[0]);
    part.style.insetInlineEnd = `calc(100% - ${at(range[1])})`;
    box.append(part);
  }
  const mark = h("div", { class: "mean" });
  mark.style.insetInlineStart = at(mean);
  box.append(mark);
  return box;
}

function placeOf(finding) {
  const step = /^steps\[(\d+)\]/.exec(finding.path ?? "");
  return `#/t/${finding.trajectory}${step ? `?at=${step[1]}` : ""}`;
}
