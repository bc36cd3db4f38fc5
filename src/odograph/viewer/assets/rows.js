// A list of any length of which only what is seen exists: rows of one height, read in pages when they come into sight.
import { h } from "./dom.js";

const TALLEST = 8_000_000; // pixels that browsers lay out without rounding

export class Rows {
  // count: rows; height: pixels of each; draw(index) -> element, or null where the row is not there yet; open(index)
  constructor({ height, draw, open, label, role = "grid" }) {
    this.height = height;
    this.draw = draw;
    this.open = open;
    this.count = 0;
    this.active = -1;
    this.drawn = new Map();
    this.space = h("div", { class: "space", role: "presentation" });
    this.element = h("div", { class: "rows", role, tabindex: "0", "aria-label": label }, this.space);
    this.element.addEventListener("scroll", () => this.later());
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.sized = new ResizeObserver(() => this.later());
    this.sized.observe(this.element);
  }

  later() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.show();
    });
  }

  fill(count) {
    this.count = count;
    this.element.setAttribute("aria-rowcount", count);
    const whole = count * this.height;
    this.scale = whole > TALLEST ? TALLEST / whole : 1;
    this.space.style.height = `${whole * this.scale}px`;
    this.refresh();
  }

  refresh() {
    for (const row of this.drawn.values()) row.remove();
    this.drawn.clear();
    this.show();
  }

  top() {
    const room = this.element.clientHeight;
    const whole = this.count * this.height;
    if (this.scale === 1) return this.element.scrollTop;
    const most = TALLEST - room;
    return most > 0 ? (this.element.scrollTop / most) * (whole - room) : 0;
  }

  show() {
    const room = this.element.clientHeight || 600;
    const top = this.top();
    const first = Math.max(0, Math.floor(top / this.height) - 6);
    const last = Math.min(this.count, Math.ceil((top + room) / this.height) + 6);
    for (const [index, row] of this.drawn) {
      if (index < first || index >= last) {
        row.remove();
        this.drawn.delete(index);
      }
    }
    const offset = this.element.scrollTop - top;
    for (let index = first; index < last; index++) {
      let row = this.drawn.get(index);
      if (row === undefined || row.dataset.empty) {
        const made = this.draw(index);
        if (made === null && row !== undefined) {
          row.style.transform = `translateY(${index * this.height + offset}px)`;
          continue;
        }
        row?.remove();
        row = made ?? h("div", { class: "row waiting", "data-empty": "1" }, "…");
        row.style.height = `${this.height}px`;
        row.classList.add("row");
        row.setAttribute("aria-rowindex", index + 1);
        row.id = `row-${index}`;
        row.addEventListener("click", (event) => {
          if (event.defaultPrevented || event.target.closest("a, button")) return;
          this.choose(index, false);
          this.open(index);
        });
        if (index === this.active) row.classList.add("active");
        this.drawn.set(index, row);
        this.space.append(row);
      }
      row.style.transform = `translateY(${index * this.height + offset}px)`;
    }
  }

  choose(index, scroll = true) {
    this.drawn.get(this.active)?.classList.remove("active");
    this.active = Math.max(0, Math.min(this.count - 1, index));
    if (scroll) {
      const top = this.top();
      const at = this.active * this.height;
      const room = this.element.clientHeight;
      let wanted = top;
      if (at < top) wanted = at;
      else if (at + this.height > top + room) wanted = at + this.height - room;
      if (wanted !== top) {
        const whole = this.count * this.height;
        this.element.scrollTop = this.scale === 1 ? wanted : (wanted / (whole - room)) * (TALLEST - room);
      }
      this.show();
    }
    this.drawn.get(this.active)?.classList.add("active");
    this.element.setAttribute("aria-activedescendant", `row-${this.active}`);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.height) - 1);
    const moves = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page };
    if (event.key in moves) this.choose(this.active + moves[event.key]);
    else if (event.key === "Home") this.choose(0);
    else if (event.key === "End") this.choose(this.count - 1);
    else if (event.key === "Enter" && this.active >= 0) this.open(this.active);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
