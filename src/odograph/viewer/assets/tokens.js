// Tokens: by source, standing, logprob, policy version and mask; and the rows that a trainer would get of them.
import { clear, figure, h, many, notice, tail, visible } from "./dom.js";
import { get } from "./source.js";

const BLOCK = 400; // tokens of an element; its tokens exist once it comes near what is seen
const COLOURS = [["source", "Source"], ["standing", "Exact or stale"], ["logprob", "Logprob"], ["entropy", "Entropy"], ["version", "Policy version"], ["call", "Call"]];
const ROW_COLOURS = [["mask", "Trained"], ["logprob", "Logprob"], ["advantage", "Advantage"], ["weight", "Weight"], ["version", "Policy version"]];

const glyph = (text) => (text === "" ? "∅" : text.replaceAll("\n", "⏎\n").replaceAll("\t", "⇥"));
const textOf = (id, piece, texts) => (piece !== undefined && piece !== null ? glyph(piece) : texts ? glyph(texts[id] ?? "") : String(id));

function scale(p) {
  return p === null || p === undefined || typeof p !== "number" ? "none" : `p${Math.min(5, Math.floor(-p * 1.6))}`;
}

// entropy in nats: certain tokens are light, as those with a logprob near 0 are
function unsure(entropy) {
  return entropy === undefined || entropy === null ? "none" : `p${Math.min(5, Math.floor(entropy * 2))}`;
}

const percent = (p) => (p > 0 && p < 0.001 ? "below 0.1 %" : `${(100 * p).toFixed(1)} %`);

function signed(value) {
  return value === null || value === undefined ? "none" : value > 0 ? (value > 1 ? "up2" : "up1") : value < 0 ? (value < -1 ? "down2" : "down1") : "zero";
}

// Draws tokens of which `kindOf(n)` says the colour; the choice of a token calls `pick(n)`. All is one text flow with few listeners.
function stream(count, textAt, kindOf, pick, plainIds) {
  const box = h("div", { class: `tokens${plainIds ? " ids" : ""}`, tabindex: "0", role: "listbox", "aria-label": `${count} tokens` });
  let chosen = null;
  const near = new IntersectionObserver((seen) => {
    for (const one of seen) if (one.isIntersecting) fillBlock(one.target);
  }, { rootMargin: "600px", scrollMargin: "600px" });
  for (let start = 0; start < count; start += BLOCK) {
    const block = h("div", { class: "block waiting" });
    block.dataset.start = start;
    box.append(block);
    near.observe(block);
  }
  const fillBlock = (block) => {
    if (!block.classList.contains("waiting")) return;
    near.unobserve(block);
    block.classList.remove("waiting");
    const start = Number(block.dataset.start);
    for (let n = start; n < Math.min(count, start + BLOCK); n++) {
      const one = document.createElement("span");
      one.className = `tk ${kindOf(n)}`;
      one.dataset.n = n;
      one.textContent = visible(textAt(n));
      block.append(one);
    }
  };
  const fill = () => {
    for (const one of box.querySelectorAll(".tk")) one.className = `tk ${kindOf(Number(one.dataset.n))}`;
    if (chosen !== null) choose(chosen, false);
  };
  const choose = (n, tell = true) => {
    if (n < 0 || n >= count) return;
    box.querySelector(".tk.chosen")?.classList.remove("chosen");
    chosen = n;
    const block = box.children[Math.floor(n / BLOCK)];
    fillBlock(block);
    const one = block.children[n % BLOCK];
    one?.classList.add("chosen");
    if (tell) {
      one?.scrollIntoView({ block: "nearest" });
      pick(n);
    }
  };
  box.addEventListener("click", (event) => event.target.dataset.n !== undefined && choose(Number(event.target.dataset.n)));
  box.addEventListener("keydown", (event) => {
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 20, ArrowUp: -20 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    event.stopPropagation();
    choose((chosen ?? -1) + moves[event.key]);
  });
  if (count) fillBlock(box.firstChild);
  return { box, fill, choose };
}

function chooser(options, chosen, change, label) {
  return h("label", {}, label, h("select", { onchange: (e) => change(e.target.value) }, options.map(([value, text]) => h("option", { value, selected: value === chosen }, text))));
}

export function tokensView({ id, query, say }) {
  const box = h("div", { class: "center" }, notice("Reading the tokens …"));
  get(`t/${id}/tokens`).then((found) => {
    const chains = found.chains.filter((c) => c.calls.length);
    if (!chains.length) {
      const why = found.chains.flatMap((c) => c.left_out).slice(0, 3).map((one) => one.reason);
      return clear(box, notice(`No token ids were recorded${why.length ? `: ${[...new Set(why)].join("; ")}` : ""}. Record with odograph.wrap(client, tokens=True).`));
    }
    show(0);

    function show(which) {
      const chain = chains[which];
      const runs = [];
      let total = 0;
      for (const run of chain.view) {
        runs.push({ ...run, from: total });
        total += run.ids.length;
      }
      const runAt = (n) => {
        let low = 0;
        let high = runs.length - 1;
        while (low < high) {
          const middle = Math.ceil((low + high) / 2);
          if (runs[middle].from <= n) low = middle;
          else high = middle - 1;
        }
        return runs[low];
      };
      const flat = new Array(total);
      for (const run of runs) for (let k = 0; k < run.ids.length; k++) flat[run.from + k] = run;
      const numbers = new Map(chain.calls.map((c, n) => [c.id, n]));
      const versions = [...new Set(Object.values(chain.about).map((a) => a.policy_version))];
      let colour = query.get("by") ?? "source";
      const kindOf = (n) => {
        const run = flat[n];
        if (colour === "source") return `s-${run.source}`;
        if (colour === "standing") return run.standing === null ? "none" : `st-${run.standing}`;
        if (colour === "logprob") return run.logprobs ? scale(run.logprobs[n - run.from]) : "none";
        if (colour === "entropy") return unsure(likely(n)?.[0]);
        if (colour === "version") return run.call ? `v${versions.indexOf(chain.about[run.call]?.policy_version) % 6}` : "none";
        return run.call ? `v${(numbers.get(run.call) ?? 0) % 6}` : "none";
      };
      const piece = (n) => {
        const run = flat[n];
        return run.call ? chain.pieces[`${run.call} ${run.choice}`]?.[run.index + n - run.from] : undefined;
      };
      const likely = (n) => {
        const run = flat[n];
        return run.call ? chain.likely[`${run.call} ${run.choice}`]?.[run.index + n - run.from] : undefined;
      };
      const textAt = (n) => textOf(flat[n].ids[n - flat[n].from], piece(n), found.texts);
      const detail = h("aside", { class: "detail", "aria-live": "polite" }, h("p", { class: "dim" }, "Choose a token: who sampled it, which edit touched it, where it stands later."));
      const view = stream(total, textAt, kindOf, pick, !found.texts && !Object.keys(chain.pieces).length);
      const legend = h("div", { class: "legend" });
      const relabel = () => {
        const names = colour === "source" ? [...new Set(runs.map((r) => r.source))].map((s) => [`s-${s}`, s])
          : colour === "standing" ? [["st-exact", "exact"], ["st-stale", "stale"], ["st-unknown", "unknown"], ["none", "not sampled"]]
          : colour === "logprob" ? [["p0", "near 0"], ["p2", "−1"], ["p5", "below −3"], ["none", "unknown"]]
          : colour === "entropy" ? [["p0", "sure"], ["p2", "1 nat"], ["p5", "above 2.5"], ["none", "unknown"]]
          : colour === "version" ? [...versions.map((v, n) => [`v${n % 6}`, v === null ? "version unknown" : `version ${v}`]), ["none", "not sampled"]] : [["none", "not sampled"]];
        clear(legend, names.map(([kind, name]) => h("span", {}, h("span", { class: `tk ${kind}` }, "  "), ` ${name}`)));
      };
      relabel();

      function pick(n) {
        if (location.protocol !== "about:") history.replaceState(null, "", `#/t/${id}/tokens?by=${colour}&token=${n}`);
        const run = flat[n];
        const k = n - run.from;
        const rows = [["token", `${JSON.stringify(piece(n) ?? found.texts?.[run.ids[k]] ?? null)} · id ${run.ids[k]}`], ["position", figure(n)], ["source", run.source]];
        if (run.call) {
          const number = numbers.get(run.call);
          const call = chain.calls[number];
          const about = chain.about[run.call] ?? {};
          const index = run.index + k;
          const spread = likely(n);
          rows.push(["sampled by", [h("a", { href: `#/t/${id}?step=${call?.step}` }, `call ${number} of step ${call?.step ?? "?"}`), `, choice ${run.choice}, token ${index}`]],
            ["standing", run.standing ?? "unknown"], ["logprob", run.logprobs?.[k] === null || run.logprobs?.[k] === undefined ? "unknown" : `${figure(run.logprobs[k])} (${about.logprobs_of})`],
            ["entropy", spread ? `at least ${figure(spread[0])} nats` : "unknown"], ["policy version", about.policy_version ?? "unknown"]);
          if (spread) rows.push(["alternatives", h("ul", {}, spread[1].map(([text, p]) => h("li", {}, `${JSON.stringify(text)} ${percent(p)}`)))]);
          const later = chain.places.filter(([c, choice, start, stop]) => c === number && choice === run.choice && start <= index && index < stop);
          rows.push(["in later prompts", later.length ? h("ul", {}, later.slice(0, 20).map(([, , start, , at, standing, first, last]) => h("li", {}, `at ${figure(at + index - start)} in call ${first}${last > first ? ` to ${last}` : ""}: ${standing}`))) : "in none"]);
        }
        if (run.edit) {
          const edit = found.edits[run.edit] ?? {};
          rows.push(["edit", `by ${edit.author ?? "an unnamed editor"}: ${edit.reason ?? "no reason given"}`]);
        }
        clear(detail, h("dl", { class: "figures" }, rows.map(([a, b]) => [h("dt", {}, a), h("dd", {}, b)])));
      }

      const sampled = runs.filter((r) => r.source === "sampled").reduce((s, r) => s + r.ids.length, 0);
      const wrong = Object.entries(chain.edits_unused);
      clear(box, h("div", { class: "tools" },
        chains.length > 1 ? chooser(chains.map((c, n) => [String(n), `${c.agent ?? "agent"} ${c.model ?? ""}`]), String(which), (v) => show(Number(v)), "Policy") : null,
        chooser(COLOURS, colour, (v) => { colour = v; view.fill(); relabel(); }, "Colour"), legend,
        h("span", { class: "count" }, `${many(total, "token")} in the last context, ${figure(sampled)} sampled, ${many(chain.calls.length, "call")}`)),
      h("div", { class: "stream tokens-page" }, wrong.length ? h("p", { class: "notice error" }, wrong.map(([e, why]) => `Edit ${tail(e)} changes nothing: ${why}`).join(" ")) : null,
        found.texts || Object.keys(chain.pieces).length ? null : h("p", { class: "dim" }, "Ids are shown, because no text of tokens was recorded. odograph view --tokenizer FILE shows text."), view.box),
      detail);
      const wanted = query.get("token");
      if (wanted !== null) view.choose(Number(wanted));
    }
  }).catch((problem) => clear(box, notice(problem.message, "error")));
  return box;
}

export function rowsView({ id, query, go }) {
  const box = h("div", { class: "center" });
  const edits = query.get("edits") ?? "env";
  const advantage = query.get("advantage") ?? "";
  const change = (name, value) => {
    const next = new URLSearchParams(query);
    next.set(name, value);
    go(`#/t/${id}/rows?${next}`);
  };
  const tools = h("div", { class: "tools" }, chooser(["env", "mask", "imitate", "pair"].map((e) => [e, e]), edits, (v) => change("edits", v), "Edits"),
    chooser([["", "none"], ...["grpo", "dr_grpo", "rloo", "art", "verl", "reward"].map((a) => [a, a])], advantage, (v) => change("advantage", v), "Advantage"));
  clear(box, tools, notice("Building the rows …"));
  get(`t/${id}/rows?edits=${edits}&advantage=${advantage}`).then((found) => {
    const account = report(found.report);
    const made = found.rows.map((row, n) => (row.token_ids ? drawRow(row, n, found, id) : drawPair(row, n)));
    clear(box, tools, h("section", { class: "stream rows-page", tabindex: "0" }, account, found.rows.length ? made : notice("This trajectory gives no row; the account says why.")));
  }).catch((problem) => clear(box, tools, notice(problem.message, "error")));
  return box;
}

function drawRow(row, number, found, id) {
  const spread = (runs) => {
    const out = [];
    for (const [count, value] of runs ?? []) for (let k = 0; k < count; k++) out.push(value);
    return out;
  };
  const advantages = spread(row.advantages);
  const weights = spread(row.weights);
  const versions = spread(row.versions);
  const names = [...new Set(versions)];
  let colour = "mask";
  const kindOf = (n) => (colour === "mask" ? (row.mask[n] ? "trained" : "none") : colour === "logprob" ? (row.mask[n] ? scale(row.logprobs[n]) : "none")
    : colour === "advantage" ? (row.mask[n] ? signed(advantages[n]) : "none") : colour === "weight" ? (row.mask[n] ? (weights[n] === 1 || weights[n] === undefined ? "trained" : weights[n] > 1 ? "up2" : "down1") : "none")
    : row.mask[n] ? `v${names.indexOf(versions[n]) % 6}` : "none");
  const said = h("p", { class: "dim", "aria-live": "polite" });
  const view = stream(row.token_ids.length, (n) => textOf(row.token_ids[n], undefined, found.texts), kindOf, (n) => {
    const part = row.parts.find((p) => p.start <= n && n < p.stop);
    clear(said, `token ${n}: id ${row.token_ids[n]}, ${row.mask[n] ? "trained" : "context"}, logprob ${row.logprobs[n] ?? "unknown"}, advantage ${figure(advantages[n])}, weight ${figure(weights[n])}, policy version ${versions[n] ?? "unknown"}`,
      part ? [", ", h("a", { href: `#/t/${id}?step=${part.step}` }, `step ${part.step}`)] : "");
  }, !found.texts);
  const trained = row.mask.reduce((a, b) => a + b, 0);
  return h("article", { class: "made" }, h("header", {}, h("h2", {}, `Row ${number}`), h("span", { class: "dim" }, `${figure(row.token_ids.length)} tokens, ${figure(trained)} trained · reward ${figure(row.reward)} · advantage ${figure(row.advantage)} · ${row.ended} · ${row.agent ?? ""}`),
    chooser(ROW_COLOURS, colour, (v) => { colour = v; view.fill(); }, "Colour")), view.box, said);
}

function drawPair(row, number) {
  return h("article", { class: "made" }, h("header", {}, h("h2", {}, `Pair ${number}`), h("span", { class: "dim" }, `${row.prompt_ids.length} tokens of prompt`)),
    h("div", { class: "two" }, h("div", {}, h("h3", {}, "rejected"), h("div", { class: "text" }, row.rejected)), h("div", {}, h("h3", {}, "chosen"), h("div", { class: "text" }, row.chosen ?? `${row.chosen_ids.length} token ids`))));
}

function report(found) {
  const rows = [["sampled", found.sampled, ""], ["trained", found.trained, ""], ...Object.entries(found.context).map(([why, n]) => ["context", n, why]), ...Object.entries(found.dropped).map(([why, n]) => ["dropped", n, why])];
  const left = [...Object.entries(found.left_out), ...Object.entries(found.calls_left_out)];
  return h("details", { class: "account", open: true }, h("summary", {}, `${many(found.rows || found.pairs, found.pairs ? "pair" : "row")}; ${found.balanced ? "every sampled token is accounted for" : "the account does not balance"}`),
    h("table", { class: "figures" }, rows.map(([name, n, why]) => h("tr", {}, h("th", {}, name), h("td", {}, figure(n)), h("td", { class: "why" }, why)))),
    left.length ? h("p", { class: "dim" }, `Left out: ${left.map(([why, n]) => `${why} (${n})`).join("; ")}`) : null);
}
