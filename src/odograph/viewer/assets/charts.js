// Figures as pictures: a value as a bar, a mean with its interval, a distribution, a curve. Each has a text for those who don't see it.
import { figure, h, visible } from "./dom.js";

export function bar(value, low, high) {
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

const placed = (low, high) => (v) => `${(100 * (Math.max(low, Math.min(high, v)) - low)) / (high - low)}%`;

// A mean, with its interval where there is one. `mark`: a value to compare with, such as 0.
export function spread(mean, range, low, high, mark) {
  const box = h("div", { class: "spread", role: "img", "aria-label": range ? `${figure(mean)}, from ${figure(range[0])} to ${figure(range[1])}` : figure(mean) }, h("div", { class: "axis" }));
  if (typeof mean !== "number" || high === low) return box;
  const at = placed(low, high);
  if (mark !== undefined) box.append(between("mark", at(mark)));
  if (range) box.append(between("range", at(range[0]), at(range[1])));
  box.append(between("mean", at(mean)));
  return box;
}

// How values lie: from the 10th to the 90th of 100 as a line, from the 25th to the 75th as a box, the median.
export function boxOf(of, low, high) {
  if (typeof of?.median !== "number" || high === low) return null;
  const at = placed(low, high);
  const said = `median ${figure(of.median)}; half of the values from ${figure(of.q25)} to ${figure(of.q75)}, 80 of 100 from ${figure(of.q10)} to ${figure(of.q90)}; all from ${figure(of.min)} to ${figure(of.max)}`;
  return h("div", { class: "spread box", role: "img", "aria-label": said, title: said }, h("div", { class: "axis" }),
    between("whisker", at(of.q10), at(of.q90)), between("half", at(of.q25), at(of.q75)), between("mean", at(of.median)));
}

function between(kind, from, to) {
  const made = h("div", { class: kind });
  made.style.insetInlineStart = from;
  if (to !== undefined) made.style.insetInlineEnd = `calc(100% - ${to})`;
  return made;
}

const SVG = "http://www.w3.org/2000/svg";
function s(tag, props, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) made.setAttribute(name, String(value));
  made.append(...children.map((child) => (child instanceof Node ? child : visible(child))));
  return made;
}

const [WIDTH, HEIGHT, LEFT, TOP, BELOW] = [760, 220, 54, 12, 30];

// Means in their order, with the band of their intervals. `points`: [{ name, mean, interval, n }]; a point without a mean is a gap.
export function curve(points, what) {
  const shown = points.filter((p) => typeof p.mean === "number");
  if (shown.length < 2) return null;
  const values = shown.flatMap((p) => [p.mean, ...(p.interval ?? [])]);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const x = (n) => LEFT + ((WIDTH - LEFT - 12) * n) / (points.length - 1);
  const y = (v) => TOP + ((HEIGHT - TOP - BELOW) * (high - v)) / (high - low);
  const at = (n, v) => `${x(n).toFixed(1)},${y(v).toFixed(1)}`;
  const numbered = points.map((p, n) => ({ ...p, at: n }));
  const runs = (has) => numbered.reduce((made, p) => {
    if (!has(p)) made.push([]);
    else made.at(-1).push(p);
    return made;
  }, [[]]).filter((run) => run.length);
  const bands = runs((p) => typeof p.mean === "number" && p.interval).map((run) => s("polygon", { class: "band", points: [...run.map((p) => at(p.at, p.interval[1])), ...run.toReversed().map((p) => at(p.at, p.interval[0]))].join(" ") }));
  const lines = runs((p) => typeof p.mean === "number").map((run) => s("polyline", { class: "line", points: run.map((p) => at(p.at, p.mean)).join(" ") }));
  const dots = numbered.filter((p) => typeof p.mean === "number").map((p) => s("circle", { class: "dot", cx: x(p.at), cy: y(p.mean), r: points.length > 80 ? 1.5 : 3.5 }, s("title", {}, `${p.name}: ${figure(p.mean)}${p.interval ? `, ${figure(p.interval[0])} to ${figure(p.interval[1])}` : ""}, of ${figure(p.n)}`)));
  const levels = [low, (low + high) / 2, high].flatMap((v) => [s("line", { class: "level", x1: LEFT, x2: WIDTH - 12, y1: y(v), y2: y(v) }), s("text", { x: LEFT - 8, y: y(v) + 4, "text-anchor": "end" }, figure(Number(v.toPrecision(3))))]);
  const every = Math.ceil(points.length / 6);
  const names = numbered.filter((p) => p.at % every === 0).map((p) => s("text", { x: x(p.at), y: HEIGHT - 8, "text-anchor": p.at === 0 ? "start" : p.at === points.length - 1 ? "end" : "middle" }, p.name.length > 18 ? `${p.name.slice(0, 17)}…` : p.name));
  const said = `${what}: from ${figure(shown[0].mean)} at ${shown[0].name} to ${figure(shown.at(-1).mean)} at ${shown.at(-1).name}`;
  return h("figure", { class: "curve" }, s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": said }, ...levels, ...bands, ...lines, ...dots, ...names));
}
