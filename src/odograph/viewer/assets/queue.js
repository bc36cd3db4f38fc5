// The queue in which a person labels by a rubric: a session, the rubric, a key a label. Nobody else's labels and no reward are here.
import { button, clear, h, isText, notice } from "./dom.js";
import { get, post } from "./source.js";
import { content, json, text } from "./content.js";

const NAME = "odograph-annotator";

export async function queuePage({ query, go, info, say }) {
  if (!info.rubric) throw new Error("There is no rubric to label by: odograph view --label RUBRIC");
  const annotator = info.who ?? query.get("annotator") ?? remembered();
  if (!annotator) return namePage(go);
  const page = h("main", { class: "scrolling queue" });
  let found = await get(`queue?annotator=${encodeURIComponent(annotator)}`);
  let chosen = 1;

  const comment = h("textarea", { rows: 1, "aria-label": "comment", placeholder: "Comment (c)" });
  const score = h("input", { type: "number", step: "any", "aria-label": "score", onkeydown: (e) => e.key === "Enter" && !found.values.length && give("") });
  const bar = h("div", { class: "answers", role: "group", "aria-label": "labels" });

  let busy = false; // a key that is pressed twice labels once
  async function act(given) {
    if (busy) return;
    busy = true;
    try {
      found = await post("queue", { annotator, trajectory: found.item?.trajectory, ...given });
    } catch (problem) {
      return say(problem.message);
    } finally {
      busy = false;
    }
    comment.value = score.value = "";
    if (given.do === "find") say(`Turn ${given.turn} is labelled`);
    else chosen = 1;
    draw(given.do !== "find");
  }

  function give(value) {
    const number = score.value === "" ? null : Number(score.value);
    if (found.score && number === null) return score.focus();
    const label = { value, score: number, rationale: comment.value };
    if (found.on === "trajectory") return act({ do: "label", ...label });
    const said = getSelection();
    const inside = said.rangeCount && page.querySelector(`[data-turn="${chosen}"]`)?.contains(said.getRangeAt(0).commonAncestorContainer);
    return act({ do: "find", turn: chosen, quote: inside ? said.toString() : "", ...label });
  }

  function choose(turn) {
    chosen = Math.max(1, Math.min(turn, found.item?.turns.length ?? 1));
    for (const one of page.querySelectorAll("[data-turn]")) one.classList.toggle("active", Number(one.dataset.turn) === chosen);
    const at = page.querySelector(`[data-turn="${chosen}"]`);
    at?.scrollIntoView({ block: "nearest" });
    at?.focus({ preventScroll: true });
  }

  function draw(top) {
    const { item } = found;
    const parts = found.on !== "trajectory";
    const head = h("header", { class: "facts plain" }, h("h1", {}, found.technique), h("p", { class: "dim progress" }, `${found.done} of ${found.of} labelled by ${annotator}`), h("progress", { max: Math.max(1, found.of), value: found.done, "aria-label": "labelled" }),
      h("details", {}, h("summary", {}, "The rubric (r)"), text(found.text, { plain: true })));
    if (item === null) {
      clear(bar, button("Undo (u)", () => act({ do: "undo" })));
      clear(page, head, notice("Nothing is left to label."), bar);
      return;
    }
    clear(bar, found.values.map((value, n) => button(`${n < 9 ? `${n + 1} ` : ""}${value}`, () => give(value), { class: "primary" })),
      found.score ? h("label", {}, `Score, ${found.score[0]} to ${found.score[1]}`, score) : null, !found.values.length ? button("Give", () => give(""), { class: "primary" }) : null,
      comment, parts ? button("Done with this session (d)", () => act({ do: "finish" })) : null, button("Skip (s)", () => act({ do: "skip" })), button("Undo (u)", () => act({ do: "undo" })));
    clear(page, head, h("section", { class: "turn task", "aria-label": "task" }, isText(item.task) ? text(item.task) : item.task === null ? null : json(item.task)),
      item.turns.map((turn) => h("article", { class: "turn", "data-turn": turn.turn, tabindex: "-1", onclick: () => parts && choose(turn.turn) },
        h("h2", {}, `${turn.turn} ${turn.role}`, turn.tool ? h("code", {}, ` ${turn.tool}`) : null, typeof turn.step === "number" ? h("span", { class: "dim" }, ` step ${turn.step}`) : null), turn.texts.map(said))),
      item.outcome ? h("p", { class: "dim" }, `Outcome: ${item.outcome}`) : null, bar);
    if (top) page.scrollTop = 0;
    if (parts) choose(chosen);
  }

  draw(true);
  return {
    title: `Label ${found.technique}`, element: page,
    focus: () => page.querySelector("button")?.focus({ preventScroll: true }),
    key: (event) => {
      if (busy) return true;
      const number = Number(event.key);
      if (number >= 1 && number <= found.values.length && found.item) return give(found.values[number - 1]), true;
      const keys = {
        s: () => act({ do: "skip" }), u: () => act({ do: "undo" }), c: () => comment.focus(), j: () => choose(chosen + 1), k: () => choose(chosen - 1),
        r: () => { const rubric = page.querySelector("details"); rubric.open = !rubric.open; },
        d: () => found.on !== "trajectory" && act({ do: "finish" }),
      };
      return event.key in keys ? (keys[event.key](), true) : false;
    },
  };
}

// A content of parts, some of them images, is a text of JSON in a session.
function said(one) {
  try {
    const parts = one.startsWith("[{") ? JSON.parse(one) : null;
    if (Array.isArray(parts)) return content(parts);
  } catch {
    // a text
  }
  return text(one, { plain: true });
}

function namePage(go) {
  const name = h("input", { name: "annotator", required: true, maxlength: 100, autocomplete: "username", "aria-label": "your name" });
  const start = (event) => {
    event.preventDefault();
    if (!name.value.trim()) return;
    try {
      localStorage.setItem(NAME, name.value.trim());
    } catch {
      // a page without storage asks again
    }
    go(`#/label?annotator=${encodeURIComponent(name.value.trim())}`);
  };
  return { title: "Label", focus: () => name.focus(), element: h("main", { class: "scrolling queue" }, h("form", { class: "tools", onsubmit: start }, h("label", {}, "Who labels?", name), h("button", { class: "primary" }, "Start"))) };
}

function remembered() {
  try {
    return localStorage.getItem(NAME);
  } catch {
    return null;
  }
}
