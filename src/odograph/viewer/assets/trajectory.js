// One trajectory: what is known of it, its timeline, its steps as a tree, and its entries, of which only what is seen exists.
import { badge, button, clear, copy, figure, h, moment, notice, seconds, tail } from "./dom.js";
import { get, isFile, post } from "./source.js";
import { Rows } from "./rows.js";
import { draw, markdown, NAMES } from "./entries.js";
import { json } from "./content.js";
import { rowsView, tokensView } from "./tokens.js";

const FAR = 4; // screens away from what is seen at which a part is taken out again

export async function trajectoryPage({ id, view, query, go, info, say }) {
  let head = null;
  const main = h("main", { class: "trajectory" });
  const facts = h("header", { class: "facts" });
  const body = h("div", { class: "panes" });
  main.append(facts, body);
  if (!isFile) {
    // from the catalog alone: there before the trajectory is read
    get(`t/${id}/about`).then((found) => head === null && clear(facts, title(found))).catch(() => {});
  }
  // of a long session the first entries are there before the rest is put together
  const early = !isFile && view === "" && !query.has("e") && !query.has("step") && !query.has("at");
  let begun = []; // these entries, which stay until the same entries with their buttons are drawn
  const first = early ? get(`t/${id}/part/0`).then((entries) => {
    begun = entries.map((entry) => draw(entry, { id, actions: () => "" }));
    clear(body, h("div", { class: "center" }, h("section", { class: "stream" }, begun)));
  }).catch(() => {}) : Promise.resolve();
  const page = { element: main, title: tail(id), focus() {}, key: () => false, changed() {} };
  const ready = first.then(() => get(`t/${id}`)).then((found) => {
    head = found;
    return fill();
  }).catch((problem) => clear(body, notice(problem.message, "error")));
  clear(body, h("p", { class: "notice" }, "Reading …"));
  page.ready = ready;
  return page;

  function part(n) {
    return get(`t/${id}/part/${n}`, { stamp: head.stamps[n] });
  }

  function title(found) {
    return h("div", { class: "title" }, badge(found.status), h("h1", {}, taskOf(found.task) || `Trajectory ${tail(found.id)}`));
  }

  function fill() {
    const rewards = Object.entries(head.rewards ?? {});
    const chips = [
      ["reward", figure(head.reward), "strong"], ...(rewards.length > 1 || rewards[0]?.[1] !== head.reward ? rewards.map(([n, v]) => [n, figure(v)]) : []),
      ["agent", head.agent], ["model", head.model], ["steps", figure(head.steps)], ["calls", figure(head.llm_calls)], ["actions", figure(head.actions)],
      ["tokens", head.prompt_tokens === null && head.completion_tokens === null ? null : `${figure(head.prompt_tokens)} in, ${figure(head.completion_tokens)} out`],
      ["cost", head.cost === null ? null : `$${figure(head.cost)}`], ["took", head.took.whole == null ? null : seconds(head.took.whole / 1000)], ["started", moment(head.started)],
      ["group", head.group && h("a", { href: `#/group?name=${encodeURIComponent(head.group)}` }, head.group, head.siblings > 1 ? ` (${head.siblings})` : "")],
      ["tags", head.tags.join(", ")],
      ["sub-agent of", head.sub_agent_of && h("a", { href: `#/t/${head.sub_agent_of}` }, tail(head.sub_agent_of))],
      ["fork of", !head.sub_agent_of && head.fork_of && [h("a", { href: `#/t/${head.fork_of}` }, tail(head.fork_of)), " ", h("a", { href: `#/diff?a=${head.fork_of}&b=${head.id}` }, "compare")]],
      ["forks", head.forks?.length ? head.forks.map((f) => [h("a", { href: `#/t/${f.id}` }, tail(f.id)), f.step === null ? " " : ` at step ${f.step} `]) : null],
    ].filter(([, v]) => v !== null && v !== undefined && v !== "" && v !== "–");
    const tabs = [["", "Session"], ["tokens", "Tokens"], ["rows", "Training rows"], ["about", "About"]];
    clear(facts, title(head), h("dl", { class: "chips" }, chips.map(([k, v, c]) => h("div", { class: c ?? null }, h("dt", {}, k), h("dd", {}, v)))),
      timeline(head, (n) => page.goTo?.(n)),
      h("nav", { class: "tabs", "aria-label": "views" }, tabs.map(([name, label]) => h("a", { href: `#/t/${id}${name ? `/${name}` : ""}`, "aria-current": view === name ? "page" : "false" }, label))));
    page.title = taskOf(head.task) || tail(id);
    document.title = `${page.title.slice(0, 60)} · Odograph`;
    if (view === "tokens") return void clear(body, tokensView({ id, head, query, go, say }));
    if (view === "rows") return void clear(body, rowsView({ id, head, query, go, say }));
    if (view === "about") return void clear(body, h("section", { class: "stream about", tabindex: "0" }, h("h2", {}, "Task"), json(head.task), h("h2", {}, "Metadata"), json(head.metadata), h("h2", {}, "Where time went"), took(head.took), h("p", {}, h("a", { href: "#", onclick: (e) => (e.preventDefault(), everything()) }, "Copy the whole session as Markdown"))));
    return session();
  }

  async function everything() {
    say("Putting the session together …");
    const out = [`# ${taskOf(head.task)}\n`];
    for (let n = 0; n < head.firsts.length; n++) {
      for (const entry of await part(n)) out.push(await markdown(entry, id));
    }
    copy(out.join("\n"), say);
  }

  function session() {
    const stream = h("section", { class: "stream", tabindex: "0", "aria-label": "session" });
    const boxes = [];
    let stamps = head.stamps;
    let active = -1;

    const steps = new Rows({
      height: 26, label: "steps", role: "listbox",
      draw: (n) => {
        const [index, agent, depth, , did, failed, reward] = head.outline[n];
        const row = h("div", { role: "option", class: failed ? "bad" : "" }, h("span", { class: "n" }, index), h("span", { class: "did" }, did.join(", ") || "answer", depth || agent !== head.agent ? h("span", { class: "dim" }, ` ${agent ?? ""}`) : ""), reward === null ? "" : h("span", { class: "earned" }, figure(reward)));
        row.style.paddingInlineStart = `${8 + depth * 14}px`;
        return row;
      },
      open: (n) => goTo(head.outline[n][3]),
    });

    const find = h("input", { type: "search", placeholder: "Search in this session  ( / )", "aria-label": "search in this session", autocomplete: "off" });
    const found = h("span", { class: "count", "aria-live": "polite" });
    let hits = [];
    let hit = -1;
    let searching = 0;
    find.addEventListener("input", () => search(find.value.toLowerCase()));
    find.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        next(event.shiftKey ? -1 : 1);
      } else if (event.key === "Escape") stream.focus();
    });

    async function search(words) {
      const mine = ++searching;
      hits = [];
      hit = -1;
      found.textContent = "";
      if (words.length < 2) return;
      // "a phrase" is one, as in the list
      const wanted = [...words.matchAll(/"([^"]+)"|[^\s"]+/g)].map((found) => JSON.stringify(found[1] ?? found[0]).slice(1, -1));
      await new Promise((later) => setTimeout(later, 120)); // the next key
      for (let n = 0; n < head.firsts.length && mine === searching; n++) {
        const entries = await part(n);
        if (mine !== searching) return;
        for (const entry of entries) {
          const said = JSON.stringify(entry.about).toLowerCase();
          if (wanted.every((word) => said.includes(word))) hits.push(entry.n);
        }
        found.textContent = `${hits.length.toLocaleString("en")} entries${n < head.firsts.length - 1 ? " …" : ""}`;
        if (hit < 0 && hits.length) next(1, false);
      }
    }

    function next(by, focus = false) {
      if (!hits.length) return;
      hit = (hit + by + hits.length) % hits.length;
      found.textContent = `${hit + 1} of ${hits.length.toLocaleString("en")}`;
      goTo(hits[hit], { focus, open: true });
    }

    const kinds = h("details", { class: "menu" }, h("summary", {}, "Show"), h("div", {},
      Object.entries(head.kinds).filter(([k]) => k !== "step").map(([kind, n]) => h("label", {}, h("input", { type: "checkbox", checked: true, onchange: (e) => { stream.classList.toggle(`no-${kind}`, !e.target.checked); } }), `${NAMES[kind] ?? kind} (${n.toLocaleString("en")})`))));
    const toolbar = h("div", { class: "tools" }, button("Steps", () => body.classList.toggle("side"), { class: "toggle-side", "aria-label": "show the list of steps" }), find, found, kinds,
      head.errors.length ? button(`${head.errors.length} failed  ( e )`, () => error(1)) : null, button("Slowest", slowest), button("Copy all", everything), isFile || info.right !== "read" ? button("Label  ( a )", () => label(null)) : null);
    clear(body, h("aside", { class: "side", "aria-label": "steps" }, steps.element), h("div", { class: "center" }, toolbar, stream));
    steps.fill(head.outline.length);

    // --- parts: each is a box; it holds its entries while it is near what is seen, and their height while it is not

    const watched = new IntersectionObserver((changes) => {
      for (const one of changes) {
        const n = Number(one.target.dataset.part);
        if (one.isIntersecting) show(n);
        else hide(n);
      }
    }, { root: stream, rootMargin: `${FAR * 50}% 0px` });

    function grow() {
      for (let n = boxes.length; n < head.firsts.length; n++) {
        const size = (head.firsts[n + 1] ?? head.entries) - head.firsts[n];
        const box = h("div", { class: "part", "data-part": n });
        box.style.minHeight = `${size * 58}px`;
        boxes.push({ box, state: "empty", load: null });
        stream.append(box);
        watched.observe(box);
      }
    }

    function show(n) {
      const held = boxes[n];
      if (held.state !== "empty") return held.load;
      held.state = "shown";
      held.load = part(n).then((entries) => {
        if (held.state !== "shown") return;
        held.box.replaceChildren(...entries.map((entry) => draw(entry, { id, actions })));
        held.box.style.minHeight = "";
        mark();
      }).catch((problem) => clear(held.box, notice(problem.message, "error")));
      return held.load;
    }

    function hide(n) {
      const held = boxes[n];
      if (held.state !== "shown" || held.box.contains(document.activeElement) && document.activeElement !== document.body) return;
      held.state = "empty";
      held.box.style.minHeight = `${held.box.offsetHeight}px`;
      held.box.replaceChildren();
    }

    function actions(entry) {
      const buttons = h("div", { class: "actions" }, button("Copy", () => copyEntry(entry)), h("a", { href: `#/t/${id}?e=${entry.n}` }, "Link"));
      if (entry.record) buttons.append(button("JSON", () => raw(entry)));
      if (isFile || info.right !== "read") buttons.append(button("Label", () => label(entry)));
      return buttons;
    }

    function partOf(number) {
      let low = 0;
      let high = head.firsts.length - 1;
      while (low < high) {
        const middle = Math.ceil((low + high) / 2);
        if (head.firsts[middle] <= number) low = middle;
        else high = middle - 1;
      }
      return low;
    }

    async function goTo(number, { focus = true, open = false, push = true } = {}) {
      if (number === null || number === undefined || number < 0 || number >= head.entries) return;
      const n = partOf(number);
      boxes[n].box.scrollIntoView({ block: "start" });
      await show(n);
      if (boxes[n].state === "empty") await show(n); // a late word of the observer hid it meanwhile; it has been read, so no second one comes between
      const element = stream.querySelector(`#e${number}`);
      if (!element) return;
      active = number;
      mark();
      if (open) for (const box of element.querySelectorAll("details")) box.open = true;
      element.scrollIntoView({ block: "start" });
      // parts above may have taken their real height meanwhile
      requestAnimationFrame(() => element.isConnected && element.scrollIntoView({ block: "start" }));
      if (focus) element.focus({ preventScroll: true });
      if (push && location.protocol !== "about:") history.replaceState(null, "", `#/t/${id}?e=${number}`);
    }
    page.goTo = goTo;

    function mark() {
      stream.querySelector(".entry.active")?.classList.remove("active");
      stream.querySelector(`#e${active}`)?.classList.add("active");
      const at = stepAt(active);
      if (at >= 0 && at !== steps.active) steps.choose(at);
    }

    function stepAt(number) {
      let low = -1;
      for (let n = 0; n < head.outline.length; n++) {
        if (head.outline[n][3] !== null && head.outline[n][3] <= number) low = n;
        else if (low >= 0) break;
      }
      return low;
    }

    async function move(by) {
      for (let number = active + by; number >= 0 && number < head.entries; number += by) {
        await show(partOf(number));
        const element = stream.querySelector(`#e${number}`);
        if (element && element.offsetHeight > 0) return goTo(number);
      }
    }

    function step(by) {
      const at = stepAt(active);
      const wanted = by < 0 && head.outline[at]?.[3] < active ? at : at + by;
      if (head.outline[wanted]) goTo(head.outline[wanted][3]);
    }

    function error(by) {
      const after = by > 0 ? head.errors.find((n) => n > active) ?? head.errors[0] : head.errors.findLast((n) => n < active) ?? head.errors.at(-1);
      goTo(after, { open: true });
    }

    function slowest() {
      const by = [...head.spans].sort((a, b) => b[2] - a[2]).slice(0, 20);
      dialog("The slowest", by.length ? h("ol", { class: "slowest" }, by.map(([kind, , took, n, agent]) => h("li", {}, button(`${seconds(took / 1000)} · ${kind} · entry ${n}${agent && agent !== head.agent ? ` · ${agent}` : ""}`, (e) => (e.target.closest("dialog").close(), goTo(n)))))) : "No durations were recorded.");
    }

    async function raw(entry) {
      const box = dialog(`Record ${tail(entry.record)}`, "Reading …");
      try {
        const value = isFile ? (await get(`t/${id}/records/${partOf(entry.n)}`))[entry.record] : await get(`t/${id}/record/${entry.record}`);
        clear(box, button("Copy", () => copy(JSON.stringify(value, null, 2), say)), h("pre", { class: "raw" }, JSON.stringify(value, null, 2).slice(0, 2_000_000)));
      } catch (problem) {
        clear(box, notice(problem.message, "error"));
      }
    }

    function label(entry) {
      const field = (name, title, more = {}) => h("label", {}, title, h(more.area ? "textarea" : "input", { name, autocomplete: "off", ...more, area: null }));
      const form = h("form", { class: "labelling", onsubmit: async (event) => {
        event.preventDefault();
        const given = Object.fromEntries([...new FormData(form)].filter(([, v]) => v !== ""));
        if (given.author) remember(given.author);
        const value = given.kind === "note" ? { kind: "note", name: given.technique, data: given.rationale ?? given.value } : { ...given, kind: "label" };
        if (value.score !== undefined) value.score = Number(value.score);
        if (entry?.record && value.kind === "label") value.target = entry.record;
        try {
          if (isFile) keepInFile(id, value, say);
          else await post(`t/${id}/annotate`, value);
          form.closest("dialog").close();
          if (!isFile) say("Recorded");
        } catch (problem) {
          form.querySelector(".notice")?.remove();
          form.append(notice(problem.message, "error"));
        }
      } },
      h("label", {}, "Kind", h("select", { name: "kind" }, h("option", { value: "label" }, "label"), h("option", { value: "note" }, "note"))),
      field("technique", "Technique or name", { required: true, placeholder: "quality" }), field("value", "Value", { placeholder: "good" }), field("score", "Score", { type: "number", step: "any" }),
      field("rationale", "Why", { area: true, rows: "3" }), field("author", "Author", { value: info.who ?? author(), readonly: Boolean(info.who) }), h("button", { type: "submit", class: "primary" }, isFile ? "Keep in this page" : "Record"));
      dialog(entry ? `Label ${NAMES[entry.kind] ?? entry.kind} ${entry.n}` : "Label this trajectory", form);
      form.querySelector("[name=technique]").focus();
    }

    page.key = (event) => {
      const keys = { j: () => move(1), k: () => move(-1), n: () => step(1), p: () => step(-1), e: () => error(1), E: () => error(-1), c: copyActive, o: () => withActive(raw), a: () => withActive(label, true), s: () => (body.classList.toggle("side"), steps.element.focus()), m: slowest };
      if (!(event.key in keys)) return false;
      keys[event.key]();
      return true;
    };
    async function withActive(what, orWhole = false) {
      const entry = active < 0 ? null : (await part(partOf(active))).find((one) => one.n === active);
      if (entry || orWhole) what(entry);
    }
    const copyActive = () => withActive(copyEntry);

    // an entry as Markdown; of a step, all that is in it
    async function copyEntry(entry) {
      const at = head.outline.findIndex((step) => step[3] === entry.n);
      if (at < 0) return copy(await markdown(entry, id), say);
      const stop = head.outline.slice(at + 1).find((step) => step[2] <= head.outline[at][2])?.[3] ?? head.entries;
      const out = [];
      for (let n = partOf(entry.n); n < head.firsts.length && head.firsts[n] < stop; n++) {
        for (const one of await part(n)) if (one.n >= entry.n && one.n < stop) out.push(await markdown(one, id));
      }
      copy(out.join("\n"), say);
    }
    page.search = () => find.focus();
    page.focus = () => stream.focus({ preventScroll: true });

    page.changed = async (ids) => {
      if (!ids.has(head.id)) return;
      const before = head;
      const stays = stream.scrollTop + stream.clientHeight > stream.scrollHeight - 80;
      head = await get(`t/${id}`);
      for (let n = 0; n < head.firsts.length; n++) {
        if (n < boxes.length && head.stamps[n] !== stamps[n]) {
          if (boxes[n].state === "shown") {
            boxes[n].state = "empty";
            await show(n);
          }
        }
      }
      stamps = head.stamps;
      grow();
      steps.fill(head.outline.length);
      if (head.behind) setTimeout(() => page.changed(ids), 1500); // the server reads long sessions less often
      if (before.status !== head.status || before.entries !== head.entries) facts.querySelector(".badge").replaceWith(badge(head.status));
      if (stays) stream.scrollTop = stream.scrollHeight;
    };

    grow();
    boxes[0]?.box.append(...begun);
    const wanted = query.get("e") !== null ? Number(query.get("e")) : query.get("step") !== null ? head.outline.find((s) => s[0] === Number(query.get("step")))?.[3] : query.get("at") !== null ? head.outline.find((s) => s[7] === Number(query.get("at")))?.[3] : null;
    if (query.has("q")) {
      find.value = query.get("q");
      search(find.value.toLowerCase());
    }
    return wanted === null || wanted === undefined ? boxes[0] && show(0) : goTo(wanted, { push: false });
  }
}

export function taskOf(task) {
  if (typeof task === "string") return task.split("\n")[0].slice(0, 200);
  return task === null || task === undefined ? "" : JSON.stringify(task).slice(0, 200);
}

function took(times) {
  const parts = Object.entries(times).filter(([, v]) => v !== null && v !== undefined);
  return h("table", { class: "figures" }, parts.map(([name, value]) => h("tr", {}, h("th", {}, name), h("td", {}, seconds(value / 1000)), h("td", {}, times.whole ? `${Math.round((100 * value) / times.whole)} %` : ""))));
}

// Model, tools and reads over time, one lane for each agent.
function timeline(head, goTo) {
  if (!head.spans.length || !(head.took.whole > 0)) return null;
  const agents = [...new Set(head.spans.map((s) => s[4]))].slice(0, 8);
  const height = Math.max(26, agents.length * 14 + 4);
  const canvas = h("canvas", { height: height * 2, role: "img", "aria-label": `timeline: ${describe(head.took)}` });
  const box = h("div", { class: "timeline", title: "Click to go to what happened then" }, canvas, h("span", { class: "legend" }, describe(head.took).split(", ").map((part) => h("span", { class: part.split(" ")[0] }, part))));
  const paint = () => {
    const width = canvas.clientWidth;
    if (!width) return;
    canvas.width = width * 2;
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(box);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = style.getPropertyValue("--lane");
    for (let n = 0; n < agents.length; n++) pen.fillRect(0, (n * 14 + 2) * 2, canvas.width, 20);
    const colours = { model: style.getPropertyValue("--model"), tool: style.getPropertyValue("--tool"), context: style.getPropertyValue("--context") };
    for (const [kind, at, long, , agent] of head.spans) {
      const lane = agents.indexOf(agent);
      if (lane < 0) continue;
      pen.fillStyle = colours[kind];
      pen.fillRect((at / head.took.whole) * canvas.width, (lane * 14 + 2) * 2, Math.max(1.5, (long / head.took.whole) * canvas.width), 20);
    }
  };
  canvas.style.height = `${height}px`;
  new ResizeObserver(paint).observe(canvas);
  box.addEventListener("click", (event) => {
    const at = (event.offsetX / canvas.clientWidth) * head.took.whole;
    let best = null;
    for (const span of head.spans) {
      const far = at < span[1] ? span[1] - at : at > span[1] + span[2] ? at - span[1] - span[2] : 0;
      if (best === null || far < best[0] || (far === best[0] && span[2] < best[2])) best = [far, span[3], span[2]];
    }
    if (best) goTo(best[1]);
  });
  document.addEventListener("themechange", paint);
  return box;
}

function describe(times) {
  return ["model", "tool", "context", "waiting"].filter((k) => times[k] > 0).map((k) => `${k} ${seconds(times[k] / 1000)}`).join(", ");
}

export function dialog(title, ...content) {
  const box = h("div", { class: "content" }, content);
  const made = h("dialog", { "aria-label": title }, h("header", {}, h("h2", {}, title), button("Close  ( Esc )", () => made.close())), box);
  made.addEventListener("close", () => made.remove());
  made.addEventListener("click", (event) => event.target === made && made.close());
  document.body.append(made);
  made.showModal();
  return box;
}

// --- labels of a file from disk: kept in the page, and saved as a file that `odograph import` takes -----------------------------

const kept = [];

function keepInFile(id, value, say) {
  kept.push({ trajectory: id, ...value });
  document.dispatchEvent(new CustomEvent("labels", { detail: kept.length }));
  say("Kept in this page: save it before you close the page");
}

export function labelsFile() {
  const now = Date.now();
  const lines = [JSON.stringify({ kind: "odograph", schema_version: 1 })];
  kept.forEach((one, n) => {
    const { kind, trajectory, ...fields } = one;
    const stamp = (now + n).toString(16).padStart(12, "0");
    const random = [...crypto.getRandomValues(new Uint8Array(10))].map((b) => b.toString(16).padStart(2, "0")).join("");
    const uuid = `${stamp.slice(0, 8)}-${stamp.slice(8)}-7${random.slice(0, 3)}-8${random.slice(3, 6)}-${random.slice(6, 18)}`;
    lines.push(`{"kind":${JSON.stringify(kind)},"id":"${uuid}","trajectory":${JSON.stringify(trajectory)},"time":${now + n}000000,${JSON.stringify(fields).slice(1)}`);
  });
  return lines.join("\n") + "\n";
}

const AUTHOR = "odograph-author";
function author() {
  try {
    return localStorage.getItem(AUTHOR) ?? "";
  } catch {
    return "";
  }
}
function remember(name) {
  try {
    localStorage.setItem(AUTHOR, name);
  } catch {
    // a file from disk may have no storage
  }
}
