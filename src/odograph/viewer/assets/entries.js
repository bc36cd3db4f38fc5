// One entry of a session as an element, and as Markdown.
import { asText, figure, h, isText, many, seconds } from "./dom.js";
import { changes, content, isCut, json, text } from "./content.js";
import { get } from "./source.js";

export const NAMES = {
  step: "step", observation: "observed", context: "read", tools: "tools", message: "message", call: "call", thinking: "thinking",
  history: "prompt", compaction: "compaction", answer: "answer", action: "tool", result: "result", reward: "reward", edit: "edit", label: "label", note: "note", outcome: "outcome",
};

export function draw(entry, { id, actions }) {
  const whole = (path) => async () => path.reduce((v, k) => v?.[k], await get(`t/${id}/whole/${entry.n}`));
  const a = entry.about;
  const name = entry.kind === "message" ? a.role : entry.kind === "answer" && a.of > 1 ? `answer ${a.choice}` : NAMES[entry.kind] ?? entry.kind;
  const element = h("article", {
    class: `entry ${entry.kind}${entry.depth ? " inner" : ""}${entry.kind === "message" ? ` role-${roleOf(a.role)}` : ""}`,
    style: entry.depth ? { marginInlineStart: `${Math.min(entry.depth, 8) * 18}px` } : null, id: `e${entry.n}`, tabindex: "-1", "data-n": entry.n,
    "aria-label": entry.kind === "step" ? `step ${entry.step}` : name,
  });
  if (entry.kind === "step") {
    const about = [entry.agent, a.again ? "goes on" : null, a.at_step != null ? `at_step ${a.at_step}` : null, a.duration ? seconds(a.duration) : null, a.prompt_tokens != null ? `${figure(a.prompt_tokens)} → ${figure(a.completion_tokens)} tokens` : null,
      a.cost != null ? `$${figure(a.cost)}` : null, a.reward != null ? `reward ${figure(a.reward)}` : null];
    element.append(h("h2", {}, `Step ${entry.step}`), h("span", { class: "who" }, about.filter(Boolean).join(" · ")), actions(entry));
    return element;
  }
  const body = h("div", { class: "body" });
  element.append(h("div", { class: "kind" }, name), body, actions(entry));
  (PARTS[entry.kind] ?? PARTS.other)(a, body, whole, entry);
  return element;
}

const roleOf = (role) => (["system", "developer", "user", "assistant", "tool"].includes(role) ? role : "other");

function brief(value) {
  const said = isCut(value) ? value.text : isText(value) ? value : Array.isArray(value) ? value.map((p) => (isText(p?.text) ? p.text : "")).join(" ") || JSON.stringify(value) : JSON.stringify(value ?? "");
  return said.replace(/\s+/g, " ").slice(0, 90);
}

const put = (box, ...children) => box.append(...children.filter((c) => c !== null && c !== undefined && c !== false && c !== ""));
const line = (...children) => h("div", { class: "line" }, ...children);
const dim = (value) => h("span", { class: "dim" }, value);

function failed(error, whole) {
  return h("div", { class: "failed" }, h("strong", {}, "error "), content(isText(error) || isCut(error) ? error : error, { whole, plain: true }));
}

function asked(calls) {
  return calls.map((one) => h("div", { class: "asked" }, h("span", { class: "arrow", "aria-hidden": "true" }, "→ "), h("code", {}, one.name ?? "?"), one.done ? "" : argument(one.arguments)));
}

function argument(value) {
  if (value === null || value === undefined || value === "") return "";
  let found = value;
  if (isText(value)) {
    try {
      found = JSON.parse(value);
    } catch {
      return text(value, { plain: true });
    }
  }
  if (found && typeof found === "object" && !Array.isArray(found) && !isCut(found)) {
    return h("dl", { class: "arguments" }, Object.entries(found).map(([k, v]) => [h("dt", {}, k), h("dd", {}, isText(v) ? text(v, { plain: true }) : h("code", {}, JSON.stringify(v)))]));
  }
  return json(found);
}

const state = (a) => (a.ok === true ? h("span", { class: "good" }, "ok") : a.ok === false ? h("span", { class: "bad" }, "failed") : null);

function outcome(a, box, whole) {
  if (a.error != null) put(box, failed(a.error, whole(["about", "error"])));
  if (a.result != null) put(box, h("div", { class: "result" }, content(a.result, { whole: whole(["about", "result"]) })));
}

const PARTS = {
  observation(a, box, whole) {
    put(box, content(a.value, { whole: whole(["about", "value"]) }));
  },
  context(a, box, whole) {
    put(box, line(h("code", {}, a.provider || "?"), a.query !== null ? [" ", h("q", {}, brief(a.query))] : "", a.purpose ? dim(` · ${a.purpose}`) : "", a.duration !== null ? dim(` · ${seconds(a.duration)}`) : ""));
    put(box, a.error != null ? failed(a.error, whole(["about", "error"])) : content(a.data, { whole: whole(["about", "data"]) }));
  },
  tools(a, box) {
    const names = a.tools.map((t) => t?.function?.name ?? t?.name ?? "?");
    put(box, h("details", {}, h("summary", {}, `${many(a.tools.length, "tool schema")}: `, h("code", {}, names.slice(0, 12).join(", ")), names.length > 12 ? " …" : ""), a.tools.map((t) => json(t))));
  },
  message(a, box, whole) {
    put(box, content(a.content, { whole: whole(["about", "content"]) }), ...asked(a.tool_calls ?? []));
  },
  call(a, box, whole) {
    const tokens = a.prompt_tokens === null && a.completion_tokens === null ? null : `${figure(a.prompt_tokens)} → ${figure(a.completion_tokens)} tokens`;
    const about = [a.model ?? "model", a.purpose !== "act" ? `for ${a.purpose}` : null, tokens, a.duration !== null ? seconds(a.duration) : null,
      a.first_token !== null ? `first token ${seconds(a.first_token)}` : null, a.cost !== null ? `$${figure(a.cost)}` : null,
      a.policy_version !== null ? `policy ${a.policy_version}` : null, a.origin === "transcript" ? "rebuilt from a transcript" : null];
    const params = Object.entries(a.params ?? {});
    put(box, h("div", { class: "line dim" }, about.filter(Boolean).join(" · "),
      params.length ? h("details", { class: "inline" }, h("summary", {}, params.map(([k, v]) => `${k} ${brief(v)}`).join(", ").slice(0, 80)), json(a.params)) : ""));
    if (a.error != null) put(box, failed(a.error, whole(["about", "error"])));
  },
  thinking(a, box, whole) {
    put(box, text(a.text, { whole: whole(["about", "text"]) }));
  },
  answer(a, box, whole) {
    put(box, a.text ? text(a.text, { whole: whole(["about", "text"]) }) : null,
      a.media?.length ? content(a.media, { whole: whole(["about", "media"]) }) : null, ...asked(a.tool_calls));
    if (a.finish_reason && !["stop", "tool_calls", "end_turn", "tool_use"].includes(a.finish_reason)) put(box, line(h("span", { class: "warn" }, `finished: ${a.finish_reason}`)));
    if (!a.text && !a.tool_calls.length && !a.media?.length) put(box, dim("no text"));
  },
  history(a, box) {
    put(box, h("div", { class: "line dim" }, `${figure(a.gone)} messages of the prompt before are gone, ${figure(a.new)} are new`));
  },
  action(a, box, whole) {
    put(box, line(h("code", { class: "name" }, a.name || "?"), " ", state(a), a.duration != null ? dim(` ${seconds(a.duration)}`) : ""));
    put(box, argument(a.arguments));
    outcome(a, box, whole);
  },
  result(a, box, whole) {
    put(box, line(state(a), a.duration != null ? dim(` ${seconds(a.duration)}`) : ""));
    outcome(a, box, whole);
  },
  compaction(a, box, whole) {
    PARTS.note(a, box, whole);
  },
  reward(a, box) {
    const where = a.span ? `tokens ${a.span[0]} to ${a.span[1]}` : a.target ? "one record" : null;
    put(box, line(h("strong", {}, a.name), " ", h("span", { class: "value" }, a.value === null ? "unknown" : figure(a.value)),
      dim([a.weight !== 1 ? `weight ${figure(a.weight)}` : null, where, a.source, a.author, a.version ? `version ${a.version.slice(0, 12)}` : null].filter(Boolean).map((s) => ` · ${s}`).join(""))));
    if (a.rationale) put(box, text(a.rationale));
  },
  edit(a, box) {
    put(box, line(dim([`of ${a.channel} by ${a.author ?? "an unnamed editor"}`, a.preferred ? "preferred" : null, `${a.unit}s`].filter(Boolean).join(" · "))));
    if (a.reason) put(box, line(h("q", {}, a.reason)));
    if (a.rejected) put(box, failed(`rejected: ${a.rejected}`));
    put(box, a.changes ? changes(a.changes) : json(a.runs));
  },
  label(a, box) {
    put(box, line(h("strong", {}, a.technique), a.value !== null ? [" ", h("code", {}, isText(a.value) ? a.value : JSON.stringify(a.value))] : "", a.score !== null ? [" ", h("span", { class: "value" }, figure(a.score))] : "",
      a.author ? dim(` · ${a.author}`) : "", a.stale ? h("span", { class: "warn" }, " · of an older rubric") : ""));
    if (a.description) put(box, line(dim(a.description)));
    if (a.rationale) put(box, text(a.rationale));
  },
  note(a, box, whole) {
    const said = isText(a.data) && a.data.length < 400 ? text(a.data) : null;
    if (said) put(box, a.name ? line(h("strong", {}, a.name)) : null, said);
    else put(box, h("details", {}, h("summary", {}, h("strong", {}, a.name ?? "note"), " ", dim(brief(a.data))), content(a.data, { whole: whole(["about", "data"]) })));
  },
  outcome(a, box, whole) {
    put(box, line(h("span", { class: `badge ${a.status}` }, a.status)));
    if (a.error != null) put(box, failed(a.error, whole(["about", "error"])));
    if (a.answer !== null) put(box, content(a.answer, { whole: whole(["about", "answer"]) }));
    if (Object.keys(a.metrics ?? {}).length) put(box, json(a.metrics));
  },
  other(a, box) {
    put(box, json(a));
  },
};

// --- as Markdown, for another model ---------------------------------------------------------------------------------------

export async function markdown(entry, id) {
  const whole = entry.long ? await get(`t/${id}/whole/${entry.n}`) : entry;
  const a = whole.about;
  const quoted = (value) => "```\n" + asText(value).replaceAll("```", "` ` `") + "\n```";
  const said = (value) => (Array.isArray(value) && value.every((p) => isText(p?.text)) ? value.map((p) => p.text).join("") : isText(value) ? value : quoted(value));
  const calls = (list) => (list ?? []).map((c) => `\n- calls \`${c.name}\`: ${asText(c.arguments)}`).join("");
  switch (entry.kind) {
    case "step": return `\n## Step ${entry.step}${entry.agent ? ` (${entry.agent})` : ""}\n`;
    case "message": return `**${a.role}**\n\n${said(a.content ?? "")}${calls(a.tool_calls)}\n`;
    case "thinking": return `**thinking**\n\n${a.text}\n`;
    case "answer": return `**answer**\n\n${a.text}${calls(a.tool_calls)}\n`;
    case "action": return `**tool \`${a.name}\`** ${a.ok === false ? "failed" : ""}\n\n${quoted(a.arguments)}\n\n${quoted(a.error ?? a.result)}\n`;
    case "call": return a.error != null ? `**call failed**\n\n${quoted(a.error)}\n` : "";
    case "tools": return `**tools**: ${a.tools.map((t) => t?.function?.name ?? t?.name ?? "?").join(", ")}\n`;
    case "reward": return `**reward** ${a.name}: ${a.value === null ? "unknown" : a.value} ${a.rationale ?? ""}\n`;
    case "outcome": return `**outcome**: ${a.status}\n\n${a.answer === null ? "" : said(a.answer)}\n`;
    default: return `**${NAMES[entry.kind] ?? entry.kind}**\n\n${quoted(a)}\n`;
  }
}
