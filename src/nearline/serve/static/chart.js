// Line charts over time and one interval, drawn into inline SVG. Elements are made once and then only moved.

import { NONE, clock } from "./format.js";

const SPACE = "http://www.w3.org/2000/svg";
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 180, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

export function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
  }
  return node;
}

function svg(name, parent, attributes = {}) {
  return parent.appendChild(set(document.createElementNS(SPACE, name), attributes));
}

export function html(name, parent, className = "", text = "") {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text) node.textContent = text;
  parent.append(node);
  return node;
}

export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// As many children as items, each made once by `make` and filled again by `fill`.
export function fit(parent, items, make, fill) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  while (parent.children.length < items.length) make(parent);
  items.forEach((item, k) => fill(parent.children[k], item, k));
}

function niceStep(span, most) {
  const rough = span / most;
  const ten = 10 ** Math.floor(Math.log10(rough));
  return ten * ([1, 2, 2.5, 5].find((m) => m * ten >= rough) ?? 10);
}

function range(low, high, step) {
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) ticks.push(k * step);
  return ticks;
}

// Ticks at whole local times: the zone's offset shifts the grid for steps of hours.
function timeTicks(low, high, most) {
  const step = STEPS.find((s) => (high - low) / s <= most) ?? 86400 * Math.ceil((high - low) / 86400 / most);
  const shift = new Date(high * 1000).getTimezoneOffset() * 60;
  return { step, ticks: range(low - shift, high - shift, step).map((t) => t + shift) };
}

const LEFT = 46, RIGHT = 14, TOP = 8, BOTTOM = 22;

// lines: [{key, name}], drawn in CSS class `key`. format: value as read in the tooltip; tick: on the axis.
// include: a value that is always in sight, drawn as a reference line when `reference` names it.
export class LineChart {
  constructor(box, { title, lines, format, tick = format, include, reference, empty, area = false }) {
    Object.assign(this, { box, title, lines, format, tick, include, reference, area, points: [], marks: [], at: null });
    this.svg = svg("svg", box, { role: "img", tabindex: "0", focusable: "true" });
    this.grid = svg("g", this.svg, { class: "grid" });
    this.axis = svg("g", this.svg, { class: "axis" });
    this.events = svg("g", this.svg, { class: "marks" });
    this.guide = svg("line", this.svg, { class: "guide" });
    this.rule = svg("text", this.svg, { class: "guide-name" });
    this.fill = area ? svg("path", this.svg, { class: `area ${lines[0].key}` }) : null;
    this.paths = [...lines].reverse().map(({ key }) => svg("path", this.svg, { class: `line ${key}` })).reverse();
    this.cursor = svg("g", this.svg, { class: "cursor" });
    this.cross = svg("line", this.cursor);
    this.dots = lines.map(({ key }) => svg("circle", this.cursor, { class: key, r: 4 }));
    this.tip = html("div", box, "tip");
    this.tip.hidden = true;
    this.none = html("p", box, "none", empty);
    this.listen();
    new ResizeObserver(() => this.draw()).observe(box);
  }

  listen() {
    const leave = () => { this.at = null; this.point(); };
    this.svg.addEventListener("pointermove", (event) => this.look(event.clientX));
    this.svg.addEventListener("pointerdown", (event) => this.look(event.clientX));
    this.svg.addEventListener("pointerleave", leave);
    this.svg.addEventListener("blur", leave);
    this.svg.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -Infinity, End: Infinity };
      if (event.key === "Escape") leave();
      if (!(event.key in steps) || !this.points.length) return;
      event.preventDefault();
      const last = this.points.length - 1;
      const now = this.at === null ? last : this.nearest(this.at);
      const next = this.at === null && steps[event.key] === -1 ? last : now + steps[event.key];
      this.at = this.points[Math.min(Math.max(next, 0), last)].time;
      this.point();
    });
  }

  update(points, marks = []) {
    const keep = (p) => Number.isFinite(p?.time) && this.lines.some(({ key }) => Number.isFinite(p[key]));
    this.points = points.filter(keep);
    this.marks = marks;
    this.draw();
  }

  draw() {
    const width = this.box.clientWidth, height = this.box.clientHeight;
    const some = this.points.length > 1;
    this.box.classList.toggle("blank", !some);
    if (!width || !some) return set(this.svg, { "aria-label": `${this.title}: no data yet` });
    set(this.svg, { viewBox: `0 0 ${width} ${height}`, width, height });
    Object.assign(this, this.scales(width, height));
    this.drawAxes(width, height);
    this.drawMarks(height);
    this.lines.forEach(({ key }, k) => set(this.paths[k], { d: this.trace(key) }));
    if (this.fill) set(this.fill, { d: this.under(this.lines[0].key) });
    this.point();
    set(this.svg, { "aria-label": this.summary() });
  }

  scales(width, height) {
    const values = this.points.flatMap((p) => this.lines.map(({ key }) => p[key])).filter(Number.isFinite);
    if (this.include !== undefined) values.push(this.include);
    const [least, most] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
    // a spread of rounding errors is none
    const spread = most - least > 1e-9 * Math.abs(most) ? most - least : Math.abs(most) || 1;
    const pad = spread * 0.08;
    const low = least >= 0 ? Math.max(0, least - pad) : least - pad, high = most + pad;
    const [from, to] = [this.points[0].time, this.points.at(-1).time];
    return {
      low, high, from, to,
      x: (t) => LEFT + ((t - from) / (to - from || 1)) * (width - LEFT - RIGHT),
      y: (v) => height - BOTTOM - ((v - low) / (high - low)) * (height - TOP - BOTTOM),
    };
  }

  drawAxes(width, height) {
    const step = niceStep(this.high - this.low, Math.max(2, Math.floor(height / 45)));
    const rows = range(this.low, this.high, step);
    fit(this.grid, rows, (g) => svg("line", g), (node, v) => set(node, { x1: LEFT, x2: width - RIGHT, y1: this.y(v), y2: this.y(v) }));
    const { step: every, ticks } = timeTicks(this.from, this.to, Math.max(2, Math.floor(width / 85)));
    const label = (t) => clock(t, { withSeconds: every < 60 });
    const texts = [
      ...rows.map((v) => ({ text: this.tick(v, step), x: LEFT - 8, y: this.y(v) + 4, anchor: "end" })),
      ...ticks.map((t) => ({ text: label(t), x: Math.min(Math.max(this.x(t), LEFT + 12), width - 22), y: height - 5, anchor: "middle" })),
    ];
    fit(this.axis, texts, (g) => svg("text", g), (node, { text, x, y, anchor }) => {
      set(node, { x, y, "text-anchor": anchor });
      say(node, text);
    });
    const shown = this.reference !== undefined;
    set(this.guide, { x1: LEFT, x2: width - RIGHT, y1: this.y(this.include ?? 0), y2: this.y(this.include ?? 0), visibility: shown ? "visible" : "hidden" });
    set(this.rule, { x: width - RIGHT, y: this.y(this.include ?? 0) - 5, "text-anchor": "end", visibility: shown ? "visible" : "hidden" });
    say(this.rule, this.reference ?? "");
  }

  drawMarks(height) {
    const seen = this.marks.filter(({ time }) => time > this.from && time < this.to);
    fit(this.events, seen, (g) => { const one = svg("g", g); svg("line", one); svg("path", one); svg("title", one); }, (node, { time, text, tone }) => {
      const [line, flag, title] = node.children, x = this.x(time);
      set(node, { class: tone });
      set(line, { x1: x, x2: x, y1: TOP, y2: height - BOTTOM });
      set(flag, { d: `M${x - 4.5} ${TOP - 6}h9l-4.5 7z` });
      say(title, text);
    });
  }

  trace(key) {
    let d = "", pen = "M";
    for (const p of this.points) {
      if (!Number.isFinite(p[key])) { pen = "M"; continue; }
      d += `${pen}${this.x(p.time).toFixed(1)} ${this.y(p[key]).toFixed(1)}`;
      pen = "L";
    }
    return d;
  }

  under(key) {
    const held = this.points.filter((p) => Number.isFinite(p[key]));
    if (!held.length) return "";
    const ground = this.y(this.low).toFixed(1);
    const top = held.map((p) => `L${this.x(p.time).toFixed(1)} ${this.y(p[key]).toFixed(1)}`).join("");
    return `M${this.x(held[0].time).toFixed(1)} ${ground}${top}L${this.x(held.at(-1).time).toFixed(1)} ${ground}Z`;
  }

  look(clientX) {
    if (this.points.length < 2 || !this.x) return;
    const box = this.svg.getBoundingClientRect();
    const share = (clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    this.at = this.points[this.nearest(this.from + share * (this.to - this.from))].time;
    this.point();
  }

  nearest(time) {
    let best = 0;
    this.points.forEach((p, k) => { if (Math.abs(p.time - time) < Math.abs(this.points[best].time - time)) best = k; });
    return best;
  }

  // Cross hair, dots and values at the time that is looked at; nothing when none is.
  point() {
    const off = this.at === null || this.points.length < 2 || !this.x;
    set(this.cursor, { visibility: off ? "hidden" : "visible" });
    this.tip.hidden = off;
    if (off) return;
    const p = this.points[this.nearest(this.at)], x = this.x(p.time);
    set(this.cross, { x1: x, x2: x, y1: TOP, y2: this.box.clientHeight - BOTTOM });
    this.lines.forEach(({ key }, k) => {
      const known = Number.isFinite(p[key]);
      set(this.dots[k], { cx: x, cy: known ? this.y(p[key]) : 0, visibility: known ? "inherit" : "hidden" });
    });
    this.drawTip(p, x);
  }

  drawTip(p, x) {
    const rows = this.lines.filter(({ key }) => Number.isFinite(p[key])).map((line) => ({ ...line, value: p[line.key] }));
    const make = (parent) => { const row = html("p", parent); html("i", row); html("span", row); html("b", row); };
    fit(this.tip, [{ key: "", name: clock(p.time), value: null }, ...rows], make, (row, { key, name, value }) => {
      const [swatch, label, number] = row.children;
      swatch.className = key ? `key ${key}` : "";
      say(label, name);
      say(number, value === null ? "" : this.format(value));
    });
    const left = x > this.box.clientWidth / 2 ? x - this.tip.offsetWidth - 12 : x + 12;
    this.tip.style.transform = `translate(${Math.max(0, left)}px, 6px)`;
  }

  summary() {
    const last = this.points.at(-1);
    const now = this.lines.map(({ key, name }) => `${name} ${Number.isFinite(last[key]) ? this.format(last[key]) : NONE}`);
    return `${this.title} from ${clock(this.from)} to ${clock(this.to)}. Latest: ${now.join(", ")}. Arrow keys read values.`;
  }
}

// One confidence interval beside zero.
export class IntervalChart {
  constructor(box) {
    this.box = box;
    this.svg = svg("svg", box, { "aria-hidden": "true" });
    this.axis = svg("g", this.svg, { class: "axis" });
    this.zero = svg("line", this.svg, { class: "zero" });
    this.bar = svg("rect", this.svg, { height: 10, rx: 5 });
    this.mean = svg("circle", this.svg, { r: 7 });
    new ResizeObserver(() => this.draw()).observe(box);
  }

  update(lift, tone, format) {
    Object.assign(this, { lift, tone, format });
    this.draw();
  }

  draw() {
    const { low, mean, high } = this.lift ?? {}, width = this.box.clientWidth;
    const known = [low, mean, high].every(Number.isFinite);
    this.box.classList.toggle("blank", !known);
    if (!known || !width) return;
    const [least, most] = [Math.min(0, low), Math.max(0, high)];
    const pad = Math.max(most - least, 1e-9) * 0.12, from = least - pad, to = most + pad;
    const x = (v) => 8 + ((v - from) / (to - from)) * (width - 16);
    set(this.svg, { viewBox: `0 0 ${width} 52`, width, height: 52, class: this.tone });
    const step = niceStep(to - from, Math.max(2, Math.floor(width / 90)));
    fit(this.axis, range(from, to, step), (g) => svg("text", g), (node, v) => {
      set(node, { x: Math.min(Math.max(x(v), 22), width - 22), y: 48, "text-anchor": "middle" });
      say(node, Math.abs(v) < step / 2 ? "0" : this.format(v));
    });
    set(this.zero, { x1: x(0), x2: x(0), y1: 2, y2: 34 });
    set(this.bar, { x: x(low), width: Math.max(2, x(high) - x(low)), y: 13 });
    set(this.mean, { cx: x(mean), cy: 18 });
  }
}
