// What agents wrote, as elements: texts, JSON, images, sound. Only where the record holds their bytes; nothing is loaded from elsewhere.
import { asText, button, h, isText } from "./dom.js";

const LINES = 14;
const IMAGE = /^data:image\/(png|jpeg|gif|webp|avif|bmp|svg\+xml);base64,[A-Za-z0-9+/=\s]+$/;

const SOUND = /^data:(audio|video)\/[\w.+-]+(;[\w=.-]+)*;base64,[A-Za-z0-9+/=\s]*$/;

export const isCut = (value) => value !== null && typeof value === "object" && typeof value.$cut === "number";

// A text; long ones are folded, and say how long they are. `whole()` gets what was cut in the page's part.
export function text(value, { whole, plain = false } = {}) {
  if (isCut(value)) {
    const box = h("div", { class: "text" });
    const more = button(`Show all ${value.$cut.toLocaleString("en")} characters`, async () => {
      more.disabled = true;
      const found = await whole();
      box.replaceWith(folded(found, true));
    }, { class: "more" });
    box.append(...pieces(value.text, plain), "…", more);
    return box;
  }
  return folded(value, false, plain);
}

function folded(value, open, plain) {
  const box = h("div", { class: "text" });
  const lines = value.split("\n");
  const long = lines.length > LINES + 4 || value.length > 2400;
  if (!long || open) {
    box.append(...pieces(value, plain));
    return box;
  }
  let head = lines.slice(0, LINES).join("\n");
  if (head.length > 2000) head = head.slice(0, 2000);
  const rest = value.length - head.length;
  const more = button("", () => {
    const opened = box.classList.toggle("open");
    box.replaceChildren(...pieces(opened ? value : head, plain), more);
    more.textContent = opened ? "Show less" : `… ${rest.toLocaleString("en")} more characters`;
    more.setAttribute("aria-expanded", opened);
  }, { class: "more", "aria-expanded": "false" });
  more.textContent = `… ${rest.toLocaleString("en")} more characters`;
  box.append(...pieces(head, plain), more);
  return box;
}

// Fenced code stands out; everything else of Markdown stays the text that it is.
function pieces(value, plain) {
  if (plain || !value.includes("```")) return [h("span", {}, value)];
  return value.split(/(?:^|\n)```/).map((part, n) => {
    if (n % 2 === 0) return h("span", {}, part.replace(/^\n/, ""));
    const [, language, code] = part.match(/^([^\n]*)\n?([^]*)$/);
    return h("pre", { class: "code", "data-language": language.trim() || null }, code);
  });
}

export function json(value, options = {}) {
  const box = text(asText(value), { ...options, plain: true });
  box.classList.add("json");
  return box;
}

// A content of a message: a text, or parts of which some are images. Any other JSON stays JSON.
export function content(value, options = {}) {
  if (value === null || value === undefined || value === "") return null;
  if (isText(value) || isCut(value)) return text(value, options);
  if (Array.isArray(value) && value.every((p) => p && typeof p === "object")) {
    return h("div", { class: "parts" }, value.map((p, n) => part(p, { ...options, whole: options.whole && (async () => (await options.whole())?.[n]) })));
  }
  return json(value, options);
}

function part(value, options) {
  if (isText(value.text) && Object.keys(value).every((k) => ["type", "text", "cache_control", "annotations"].includes(k))) {
    return text(value.text, options);
  }
  if (isCut(value.text)) return text(value.text, { ...options, whole: async () => (await options.whole()).text });
  const url = placeOf(value);
  if (isCut(url)) {
    const place = h("span", { class: "dim" }, "…");
    options.whole().then((found) => place.replaceWith(medium(found))).catch(() => (place.textContent = "This part can't be read."));
    return place;
  }
  if (url !== null) return medium(value);
  if (value.type === "tool_result" && value.content !== undefined) return content(value.content, options);
  return json(value, options);
}

// Where a part that is no text is: a data URL, or a URL; null for a part that is text.
function placeOf(value) {
  const held = [value.image_url, value.audio_url, value.video_url].find((one) => one) ?? {};
  const file = value.file ?? value;
  const place = [held, held.url, file.file_data, file.file_url, value.source?.url].find((one) => isText(one) || isCut(one));
  if (place !== undefined) return place;
  const inline = value.inline_data ?? value.inlineData ?? value.source ?? value.input_audio;
  const kind = inline?.mime_type ?? inline?.mimeType ?? inline?.media_type ?? `audio/${inline?.format}`;
  if (isCut(inline?.data)) return inline.data;
  return isText(inline?.data) && inline.type !== "text" ? `data:${kind};base64,${inline.data}` : null;
}

function medium(value) {
  const url = placeOf(value);
  if (IMAGE.test(url)) return h("img", { class: "image", src: url, alt: "image in the conversation", loading: "lazy" });
  const kind = url.match(SOUND)?.[1];
  if (kind) return h(kind, { src: url, controls: true, preload: "none", "aria-label": `${kind} in the conversation` });
  const name = value.type?.includes?.("image") ? "Image" : "File";
  if (url.startsWith("data:")) return h("div", { class: "remote" }, `${name}, not shown: `, h("code", {}, `${url.slice(0, 60)}… (${url.length.toLocaleString("en")} characters)`));
  return h("div", { class: "remote" }, `${name} of another host, not loaded: `, h("code", {}, url.slice(0, 300)));
}

// An edit or a difference: what was kept, cut, put in and moved.
export function changes(found) {
  const marks = { keep: "span", cut: "del", put: "ins", moved: "ins" };
  return h("div", { class: "text diff" }, found.map((one) => {
    const said = one.text !== undefined ? one.text : one.ids.map((id) => `⟨${id}⟩`).join("");
    return h(marks[one.op] ?? "span", { class: one.op, title: one.op === "moved" ? "moved here" : null }, said);
  }));
}

// Two texts as one, word by word; where they are long, only their ends are compared.
export function difference(a, b) {
  const left = a.split(/(\s+)/);
  const right = b.split(/(\s+)/);
  let start = 0;
  while (start < left.length && start < right.length && left[start] === right[start]) start++;
  let end = 0;
  while (end < left.length - start && end < right.length - start && left.at(-1 - end) === right.at(-1 - end)) end++;
  const x = left.slice(start, left.length - end);
  const y = right.slice(start, right.length - end);
  const out = [{ op: "keep", text: left.slice(0, start).join("") }];
  if (x.length * y.length > 250_000) {
    out.push({ op: "cut", text: x.join("") }, { op: "put", text: y.join("") });
  } else {
    const table = Array.from({ length: x.length + 1 }, () => new Uint32Array(y.length + 1));
    for (let i = x.length - 1; i >= 0; i--) {
      for (let j = y.length - 1; j >= 0; j--) {
        table[i][j] = x[i] === y[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
      }
    }
    let i = 0;
    let j = 0;
    while (i < x.length || j < y.length) {
      if (i < x.length && j < y.length && x[i] === y[j]) out.push({ op: "keep", text: x[i] }), i++, j++;
      else if (j >= y.length || (i < x.length && table[i + 1][j] >= table[i][j + 1])) out.push({ op: "cut", text: x[i++] });
      else out.push({ op: "put", text: y[j++] });
    }
  }
  out.push({ op: "keep", text: left.slice(left.length - end).join("") });
  const joined = [];
  for (const one of out) {
    if (!one.text) continue;
    if (joined.at(-1)?.op === one.op) joined.at(-1).text += one.text;
    else joined.push({ ...one });
  }
  return joined;
}
