// Over many: rewards with intervals by any part, by component and over time; what validation finds, each with a way to its place.
import { button, clear, figure, h, notice, tail } from "./dom.js";
import { boxOf, curve, spread } from "./charts.js";
import { get } from "./source.js";

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
  const filter = { group: "group", agent: "agent", model: "model", status: "status", tag: "tag", policy_version: "policy_version" }[by];
  const to = (key) => {
    if (!filter || key === null) return key ?? "none";
    const next = new URLSearchParams(filters);
    next.set(filter, key);
    return h("a", { href: `#/?${next}` }, String(key));
  };
  const ordered = ["policy_version", "day", "hour"].includes(by);
  const parts = found.parts.slice(0, 1000).map((p) => ({ name: to(p.key), text: String(p.key ?? "none"), known: p.key !== null, n: p.rewarded, unknown: p.reward_null, mean: p.reward_mean, interval: p.reward_interval, method: p.reward_method, last: `${Math.round(100 * p.completed_rate)} %`, lie: lieOf(p, "reward_") }));
  if (ordered) parts.sort((a, b) => b.known - a.known || a.text.localeCompare(b.text, "en", { numeric: true }));
  const of = (name, c) => ({ name, text: name, n: c.n, unknown: c.null, mean: c.mean, interval: c.interval, method: c.method, lie: lieOf(c, "") });
  const components = Object.entries(found.components).map(([name, c]) => of(name, c));
  const times = found.over_time.map((o) => of(o.from.slice(0, 16).replace("T", " "), o));
  const all = [...parts, ...components, ...times].flatMap((p) => [p.mean, p.lie.q10, p.lie.q90, ...(p.interval ?? [])]).filter((v) => typeof v === "number");
  const [low, high] = [Math.min(0, ...all), Math.max(0, ...all)];
  const heads = (last) => [["", ""], ["Rewarded", "number"], ["Unknown", "number"], ["Mean", "number"], ["", ""], [`${Math.round(found.confidence * 100)} % interval`, "number"], ["How rewards lie", ""], [last, "number"], ["Method", ""]];
  const table = (title, rows, { last = "", picture = null } = {}) => rows.length ? h("section", {}, h("h2", {}, title), picture, h("div", { class: "sheet" }, h("table", {}, h("thead", {}, h("tr", {}, heads(last).map(([t, c]) => h("th", { class: c, scope: "col" }, t)))),
    h("tbody", {}, rows.slice(0, 100).map((p) => h("tr", {}, h("td", {}, p.name), h("td", { class: "number" }, figure(p.n)), h("td", { class: "number" }, p.unknown ? figure(p.unknown) : ""), h("td", { class: "number" }, figure(p.mean)),
      h("td", {}, spread(p.mean, p.interval, low, high)), h("td", { class: "number dim" }, p.interval ? `${figure(p.interval[0])} to ${figure(p.interval[1])}` : "no interval"), h("td", {}, boxOf(p.lie, low, high)), h("td", { class: "number" }, p.last ?? ""), h("td", { class: "dim" }, p.method ?? ""))))))) : null;
  const points = (rows) => rows.filter((p) => p.known !== false).map((p) => ({ name: p.text, n: p.n, mean: p.mean, interval: p.interval }));
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
      h("div", { class: "tools" }, h("label", {}, "By", h("select", { onchange: (e) => change(e.target.value) }, ["model", "agent", "policy_version", "group", "tag", "status", "day", "hour"].map((b) => h("option", { value: b, selected: b === by }, b.replace("_", " "))))), h("a", { href: `#/?${filters}` }, "The list"), h("a", { href: `#/labels?${filters}` }, "Labels and comparisons")),
      h("div", { class: "over" },
        table(`Reward by ${by.replace("_", " ")}`, parts, { last: "Completed", picture: ordered ? curve(points(parts), `Mean reward by ${by.replace("_", " ")}`) : null }),
        table("By component, before weights", components),
        times.length > 1 ? table(`Over time, by ${found.span}`, times, { picture: curve(points(times), "Mean reward over time") }) : null,
        findings)),
  };
}

const lieOf = (p, before) => Object.fromEntries(["min", "q10", "q25", "median", "q75", "q90", "max"].map((name) => [name, p[before + name]]));

function placeOf(finding) {
  const step = /^steps\[(\d+)\]/.exec(finding.path ?? "");
  return `#/t/${finding.trajectory}${step ? `?at=${step[1]}` : ""}`;
}
