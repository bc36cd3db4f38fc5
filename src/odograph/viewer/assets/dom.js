// Elements and figures. Text becomes text nodes only: nothing that an agent wrote is ever parsed as HTML.

export function h(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("aria-")) made.setAttribute(name, String(value));
    else if (value === false) continue;
    else if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(made.style, value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  add(made, children);
  return made;
}

export function add(element, children) {
  for (const child of children.flat(9)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(visible(String(child))));
  }
}

// Marks of direction and other invisible characters are shown as what they are, so that no text looks like another.
const HIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
export function visible(text) {
  return text.replace(HIDDEN, (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

export function clear(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

export const isText = (value) => typeof value === "string";
export function asText(value) {
  if (isText(value)) return value;
  if (value === undefined) return "";
  const line = JSON.stringify(value);
  return line.length <= 88 ? JSON.stringify(value, null, 1).replace(/\n\s*/g, " ") : JSON.stringify(value, null, 2);
}

// "1 call", "2 calls"
export const many = (n, word) => `${figure(n)} ${word}${n === 1 ? "" : "s"}`;

export function figure(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 1e6 ? value.toExponential(3) : String(Number(value.toPrecision(4)));
}

export function short(count) {
  if (count === null || count === undefined) return "–";
  return count < 10000 ? String(count) : count < 1e7 ? `${Math.round(count / 1000)}k` : `${Math.round(count / 1e6)}M`;
}

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(1)} s`;
  const minutes = Math.floor(value / 60);
  return minutes < 60 ? `${minutes} m ${Math.floor(value % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} m`;
}

export function moment(iso) {
  return iso ? iso.slice(0, 16).replace("T", " ") : "–";
}

export const tail = (id) => (id || "").slice(-8).replace(/^-/, "");

export function badge(status) {
  return h("span", { class: `badge ${status}` }, status);
}

export function button(text, onclick, more = {}) {
  return h("button", { type: "button", onclick, ...more }, text);
}

export function notice(text, kind = "") {
  return h("p", { class: `notice ${kind}`, role: kind === "error" ? "alert" : "status" }, text);
}

export async function copy(text, say) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "offscreen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say(`Copied ${text.length.toLocaleString("en")} characters`);
}
