// Charts as SVG. Sizes are in units of its own: the picture is as wide as its place.

import { h, s } from "./dom.js";
import { number } from "./format.js";

const width = 380;
const height = 230;
const margin = { left: 76, right: 14, top: 12, bottom: 40 };
const most = 400; // points of a line that are drawn

/** Round numbers across a range. */
export function ticks(low, high, count = 5) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(Number(at.toPrecision(12)));
  return found;
}

function linear(values, start, end, whole = false) {
  const integers = values.every(Number.isInteger);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (low === high) {
    const room = integers ? 1 : Math.abs(low) / 10 || 1;
    [low, high] = [low - room, high + room];
  } else if (!whole) {
    const room = (high - low) * 0.06;
    [low, high] = [low - room, high + room];
  }
  const place = (value) => start + ((value - low) / (high - low)) * (end - start);
  return { place, ticks: ticks(low, high).filter((at) => !integers || Number.isInteger(at)), text: number };
}

function logarithmic(values, start, end) {
  const inner = linear(values.map(Math.log10), start, end);
  const [low, high] = [Math.min(...values), Math.max(...values)].map(Math.log10);
  const decades = [];
  for (let at = Math.ceil(low); at <= Math.floor(high); at += 1) decades.push(10 ** at);
  const shown = decades.length > 1 ? decades : inner.ticks.map((at) => 10 ** at);
  const brief = (value) => number(Number(value.toPrecision(2)));
  return { place: (value) => inner.place(Math.log10(value)), ticks: shown, text: brief };
}

function categories(values, start, end) {
  const names = [...new Set(values)].sort();
  const step = (end - start) / names.length;
  return { place: (value) => start + step * (names.indexOf(value) + 0.5), ticks: names, text: (name) => name };
}

const short = (text, size) => (text.length > size ? `${text.slice(0, size - 1)}…` : text);

function axes(x, y, labels) {
  const [bottom, right] = [height - margin.bottom, width - margin.right];
  return [
    y.ticks.map((at) => [
      s("line", { class: "grid", x1: margin.left, x2: right, y1: y.place(at), y2: y.place(at) }),
      s("text", { x: margin.left - 8, y: y.place(at) + 4, "text-anchor": "end" }, y.text(at)),
    ]),
    x.ticks.map((at) => s("text", { x: x.place(at), y: bottom + 17, "text-anchor": "middle" }, short(x.text(at), 12))),
    s("line", { class: "axis", x1: margin.left, x2: right, y1: bottom, y2: bottom }),
    s("text", { class: "label", x: (margin.left + right) / 2, y: height - 5, "text-anchor": "middle" }, short(labels.x, 40)),
    s("text", { class: "label", x: -(margin.top + bottom) / 2, y: 13, "text-anchor": "middle", transform: "rotate(-90)" }, short(labels.y, 26)),
  ];
}

const picture = (label, ...content) =>
  s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...content);

/** Of many points, of each stretch the least and the greatest. */
function thinned(points) {
  if (points.length <= most) return points;
  const size = Math.ceil(points.length / (most / 2));
  const found = [];
  for (let at = 0; at < points.length; at += size) {
    const stretch = points.slice(at, at + size);
    const sorted = [...stretch].sort((one, other) => one[1] - other[1]);
    found.push(...[sorted[0], sorted.at(-1)].sort((one, other) => one[0] - other[0]));
  }
  return found;
}

/** Curves over the number of the value; `series` are {name, values}. */
export function curves(title, series) {
  const drawn = series.map(({ name, values }) => ({
    name,
    values,
    points: thinned(values.map((value, index) => [index + 1, value]).filter(([, value]) => value !== null)),
  }));
  const points = drawn.flatMap((each) => each.points);
  if (!points.length) return null;
  const x = linear([1, ...points.map(([at]) => at)], margin.left + 8, width - margin.right - 8, true);
  const y = linear(points.map(([, value]) => value), height - margin.bottom, margin.top);
  const told = drawn.map(({ name, values }) => `${name}: ${values.length} values, the last ${number(values.at(-1))}`);
  const lines = drawn.map((each, index) => curve(each, x, y, index));
  const legend = drawn.map(({ name, values }, index) =>
    h("li", {}, swatch(index), h("span", {}, name), h("b", {}, number(values.at(-1)))));
  return h("figure", {},
    h("figcaption", {}, h("h3", {}, title), h("ul", { class: "legend" }, legend)),
    picture(`${title}. ${told.join("; ")}`, axes(x, y, { x: "value number", y: title }), lines));
}

function curve({ name, points }, x, y, index) {
  const colour = `series-${index % 4}`;
  const at = points.map(([step, value]) => [x.place(step).toFixed(1), y.place(value).toFixed(1)]);
  const dots = points.length <= 60 ? points : points.slice(-1);
  return s("g", { class: colour },
    s("path", { class: "curve", d: `M${at.map((place) => place.join(",")).join("L")}` }),
    dots.map(([step, value]) =>
      s("circle", { cx: x.place(step).toFixed(1), cy: y.place(value).toFixed(1), r: 3 },
        s("title", {}, `${name}, value ${step}: ${number(value)}`))));
}

const swatch = (index) =>
  s("svg", { class: "swatch", viewBox: "0 0 22 8", "aria-hidden": "true" },
    s("g", { class: `series-${index % 4}` }, s("path", { class: "curve", d: "M1,4L21,4" })));

/** Points that lead somewhere; `points` are {x, y, best, title, href}, x numbers or, for categories, texts. */
export function scatter(points, labels, isLogarithmic) {
  const known = points.filter(({ x, y }) => x !== null && y !== null);
  if (!known.length) return h("p", { class: "empty" }, "No training job has an objective yet.");
  const values = known.map((point) => point.x);
  const numeric = values.every((value) => typeof value === "number");
  const kind = !numeric ? categories : isLogarithmic && values.every((value) => value > 0) ? logarithmic : linear;
  const x = kind(values, margin.left + 8, width - margin.right - 8);
  const y = linear(known.map((point) => point.y), height - margin.bottom, margin.top);
  const bestLast = [...known].sort((one, other) => one.best - other.best);
  const drawn = bestLast.map((point) => {
    const place = { cx: x.place(point.x).toFixed(1), cy: y.place(point.y).toFixed(1) };
    return s("a", { href: point.href, class: point.best ? "best" : "trial", "aria-label": point.title },
      s("circle", { ...place, r: point.best ? 6.5 : 4.5 }, s("title", {}, point.title)));
  });
  return s("svg", { class: "chart scatter", viewBox: `0 0 ${width} ${height}`, role: "group",
    "aria-label": `${labels.y} against ${labels.x}, ${known.length} training jobs` }, axes(x, y, labels), drawn);
}
