// Labels: what each annotator said by each rubric; two annotators, rubrics, techniques, worlds or parts of the store compared.
import { button, clear, figure, h, notice, tail } from "./dom.js";
import { boxOf, spread } from "./charts.js";
import { get } from "./source.js";

const OWN = ["by", "a", "b", "technique", "rubric", "judge"];

export async function labelsPage({ query, go }) {
  const filters = new URLSearchParams([...query].filter(([k]) => ![...OWN, "fold", "sort"].includes(k)));
  const [found, counts] = await Promise.all([get(`labels?${filters}`), get(`counts?${filters}`)]);
  const tables = found.tables;
  const scores = tables.flatMap((t) => [t.scores.mean, t.scores.q10, t.scores.q90, ...(t.scores.interval ?? [])]).filter((v) => typeof v === "number");
  const [low, high] = [Math.min(0, ...scores), Math.max(0, ...scores)];
  const byTechnique = Map.groupBy(tables, (t) => t.technique);
  const compared = h("section", { class: "compared", "aria-live": "polite" });
  const technique = query.get("technique") ?? (byTechnique.size === 1 ? [...byTechnique.keys()][0] : "");

  // what A and B can be, by what is compared
  const known = (by) => {
    if (by === "judge") return [...new Set([...(tables.some((t) => t.person) ? ["people"] : []), ...tables.map((t) => t.author).filter(Boolean)])];
    if (by === "rubric") return [...new Set(tables.map((t) => t.version?.slice(0, 8)).filter(Boolean))];
    if (by === "technique") return [...byTechnique.keys()];
    return (counts[by] ?? []).map(([value]) => String(value));
  };
  const by = query.get("by") ?? ["judge", "rubric", "technique"].find((b) => known(b).length > 1) ?? "model";
  const field = (name, n) => h("label", {}, name.toUpperCase(), h("input", { name, list: "sides", required: true, autocomplete: "off", size: "14", value: query.get(name) ?? known(by)[n] ?? "" }));
  const choose = h("select", { name: "by", onchange: () => {
    const next = new URLSearchParams(filters);
    next.set("by", choose.value);
    go(`#/labels?${next}`);
  } }, found.by.map((b) => h("option", { value: b, selected: b === by }, b.replace("_", " "))));
  const form = h("form", { class: "tools", onsubmit: (event) => {
    event.preventDefault();
    const next = new URLSearchParams(filters);
    for (const [name, value] of new FormData(form)) if (value) next.set(name, value);
    go(`#/labels?${next}`);
  } }, h("label", {}, "Compare by", choose), field("a", 0), field("b", 1), h("datalist", { id: "sides" }, known(by).map((value) => h("option", { value }))),
  ["judge", "rubric"].includes(by) && byTechnique.size > 1 ? h("label", {}, "of", h("select", { name: "technique" }, [...byTechnique.keys()].map((t) => h("option", { value: t, selected: t === technique }, t)))) : null,
  h("button", { type: "submit", class: "primary" }, "Compare"), h("a", { href: `#/over?${filters}` }, "Figures"));

  if (query.get("a") && query.get("b")) compared.append(notice("Comparing …"));
  const ready = compared.hasChildNodes() ? get(`comparison?${query}`).then((made) => clear(compared, ...comparison(made)), (problem) => clear(compared, notice(problem.message, "error"))) : null;
  return {
    title: "Labels", focus: () => form.querySelector("input").focus(), ready,
    element: h("main", { class: "scrolling" }, h("header", { class: "facts plain" }, h("h1", {}, "Labels and comparisons"), h("p", { class: "dim" }, `${figure(tables.reduce((n, t) => n + t.n, 0))} labels of whole trajectories${filters.size ? ` · only ${[...filters].map(([k, v]) => `${k} ${v}`).join(", ")}` : ""}`)),
      form, h("div", { class: "over" }, compared,
        tables.length === 0 ? notice("No label of a whole trajectory is here. `odograph label` and the queue of `odograph view --label` make labels.") : [...byTechnique].map(([name, some]) => h("section", {}, h("h2", {}, name), h("div", { class: "sheet" }, h("table", {},
          h("thead", {}, h("tr", {}, [["Annotator", ""], ["Rubric", ""], ["Labelled", "number"], ["Values", ""], ["Mean score", "number"], ["", ""], ["How scores lie", ""]].map(([t, c]) => h("th", { class: c, scope: "col" }, t)))),
          h("tbody", {}, some.map((t) => h("tr", {}, h("td", {}, t.author ?? "unknown", t.person ? h("span", { class: "dim" }, " a person") : null), h("td", {}, h("code", {}, t.version?.slice(0, 8) ?? "–")), h("td", { class: "number" }, figure(t.n)), h("td", {}, values(t)),
            h("td", { class: "number" }, figure(t.scores.mean)), h("td", {}, spread(t.scores.mean, t.scores.interval, low, high)), h("td", {}, boxOf(t.scores, low, high)))))))))),
      ),
  };
}

function values(t) {
  const all = Object.entries(t.values);
  const of = all.reduce((n, [, count]) => n + count, t.others);
  return h("div", { class: "values" }, all.map(([value, n]) => h("span", { class: "one" }, value, h("span", { class: "dim" }, ` ${Math.round((100 * n) / of)} % (${figure(n)})`))), t.others ? h("span", { class: "dim" }, `${figure(t.others)} of other values`) : null);
}

function comparison(made) {
  const [a, b] = made.names;
  const reach = (m) => Math.max(...(m.interval ?? []).map(Math.abs), Math.abs(m.difference), 1e-9); // each measure has a scale of its own
  const text = (m) => (m.interval ? `${figure(m.interval[0])} to ${figure(m.interval[1])}` : "no interval");
  const matrix = made.agreement?.confusion;
  return [
    h("h2", {}, `${b} less ${a}`),
    h("div", { class: "sheet" }, h("table", {}, h("thead", {}, h("tr", {}, [["", ""], [a, "number"], [b, "number"], ["Difference", "number"], ["", ""], [`${Math.round(100 * made.confidence)} % interval`, "number"], ["p, corrected", "number"], ["Detectable", "number"], ["Compared by", ""]].map(([t, c]) => h("th", { class: c, scope: "col" }, t)))),
      h("tbody", {}, made.measures.map((m) => h("tr", {}, h("td", {}, m.name), h("td", { class: "number" }, figure(m.a.mean), h("span", { class: "dim" }, ` of ${figure(m.a.n)}`)), h("td", { class: "number" }, figure(m.b.mean), h("span", { class: "dim" }, ` of ${figure(m.b.n)}`)), h("td", { class: "number" }, figure(m.difference)),
        h("td", {}, spread(m.difference, m.interval, -reach(m), reach(m), 0)), h("td", { class: "number dim" }, text(m)), h("td", { class: "number" }, figure(m.corrected)), h("td", { class: "number dim" }, figure(m.detectable)), h("td", { class: "dim" }, m.pairs ? `${m.test}, ${figure(m.pairs)} pairs` : m.test)))))),
    made.notes.map((note) => h("p", { class: "dim" }, note)),
    matrix ? h("div", { class: "sheet" }, h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, `${a} \\ ${b}`), matrix.labels.map((l) => h("th", { scope: "col", class: "number" }, String(l))))), h("tbody", {}, matrix.labels.map((l, n) => h("tr", {}, h("th", { scope: "row" }, String(l)), matrix.counts[n].map((count, k) => h("td", { class: n === k ? "number good" : "number" }, figure(count)))))))) : null,
    made.rubric.length ? h("pre", { class: "rubric" }, made.rubric.join("\n")) : null,
    made.changed.length ? h("section", {}, h("h2", {}, `Labelled differently (${figure(made.total_changed)})`), h("div", { class: "sheet" }, h("table", {}, h("thead", {}, h("tr", {}, ["Trajectory", a, b, "Reasons"].map((t) => h("th", { scope: "col" }, t)))), h("tbody", {}, made.changed.map((one) => {
      const [id, ...rest] = one.trajectory.split(" ");
      return h("tr", {}, h("td", {}, h("a", { href: `#/t/${id}` }, h("code", {}, tail(id))), rest.length ? ` ${rest.join(" ")}` : ""), h("td", {}, figure(one.a)), h("td", {}, figure(one.b)), h("td", { class: "said" }, [[a, one.a_why], [b, one.b_why]].filter(([, why]) => why).map(([name, why]) => h("div", {}, h("span", { class: "dim" }, `${name}: `), why))));
    }))))) : null,
  ];
}
