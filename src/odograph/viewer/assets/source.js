// Where answers come from: a server, or this very file. Both have the same names.

export const isFile = document.querySelector("script[data-name]") !== null;

const known = new Map();
const MOST = 400;

// What can't be had, in words for people.
export class Problem extends Error {}

// `stamp`: of which state of the answer this is; an answer with a stamp is kept.
export async function get(name, { stamp } = {}) {
  const key = stamp === undefined ? name : `${name} ${stamp}`;
  if (known.has(key)) return known.get(key);
  const found = isFile ? await fromFile(name) : await fromServer(name);
  if (isFile || stamp !== undefined) {
    known.set(key, found);
    if (known.size > MOST) known.delete(known.keys().next().value);
  }
  return found;
}

async function fromServer(name, options) {
  const reply = await fetch(`api/${name}`, options).catch(() => null);
  if (reply === null) throw new Problem("The server does not answer.");
  const value = await reply.json().catch(() => undefined); // a proxy between may say anything
  if (!reply.ok || value === undefined) throw new Problem(value?.error ?? `The server answered ${reply.status}.`);
  return value;
}

async function fromFile(name) {
  if (name.startsWith("list?")) return windowOf(await get("list"), new URLSearchParams(name.slice(5)));
  const held = document.querySelector(`script[data-name="${CSS.escape(name)}"]`);
  if (held === null) throw new Problem("This file does not hold that.");
  const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(held.textContent) : decoded(held.textContent);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// A file holds the whole list: it is sorted here.
function windowOf(whole, query) {
  const by = query.get("sort")?.replace(/^-/, "") ?? "started";
  const way = query.get("sort")?.startsWith("-") ? -1 : 1;
  const value = (row) => (by === "tokens" ? row.completion_tokens : row[by]);
  const rows = [...whole.rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === y) return 0;
    if (x === null || x === undefined) return 1;
    if (y === null || y === undefined) return -1;
    return (x < y ? -1 : 1) * way;
  });
  const offset = Number(query.get("offset") ?? 0);
  return { total: rows.length, offset, rows: rows.slice(offset, offset + Number(query.get("size") ?? 100)) };
}

function decoded(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let n = 0; n < raw.length; n++) bytes[n] = raw.charCodeAt(n);
  return bytes;
}

export function post(name, value) {
  return fromServer(name, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });
}

// What changes: calls back with ids, as long as the page is open.
export function follow(changed) {
  if (isFile) return () => {};
  const events = new EventSource("api/live");
  events.onmessage = (event) => changed(new Set(JSON.parse(event.data)));
  return () => events.close();
}
