// Parts that several views have.

import { address, get, post } from "./api.js";
import { h, keep } from "./dom.js";
import * as format from "./format.js";

export const ended = (status) => ["Completed", "Failed", "Stopped", "OutOfService"].includes(status);

const tones = {
  Completed: "good", InService: "good",
  Failed: "bad", RollingBack: "bad", UpdateRollbackFailed: "bad",
  Stopped: "quiet", OutOfService: "quiet",
};

export const badge = (status) => h("span", { class: `badge ${tones[status] ?? "busy"}` }, status || "–");

export const heading = (title, status, ...more) =>
  h("div", { class: "heading" }, h("h1", {}, title), status && badge(status), ...more);

export const section = (title, ...content) => h("section", { class: "card" }, h("h2", {}, title), content);

export const failure = (reason) =>
  reason && h("div", { class: "failure", role: "note" }, h("strong", {}, "Failure reason"), h("p", {}, reason));

/** Names and values; what has no value is left out. */
export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false);
  return h("dl", { class: "facts" }, known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

export function table(label, columns, rows, empty = "Nothing yet.") {
  if (!rows.length) return h("p", { class: "empty" }, empty);
  const head = columns.map((column) => (column instanceof Node ? column : h("th", { scope: "col" }, column)));
  return h(
    "div", { class: "wide", role: "region", "aria-label": label, tabindex: "0" },
    h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)),
  );
}

export const row = (cells, properties) =>
  h("tr", properties, cells.map((cell) => (cell?.nodeName === "TD" ? cell : h("td", {}, cell))));

export const count = (value) => h("td", { class: "number" }, value);

export const all = (description) =>
  h("details", { class: "card" }, h("summary", {}, "Everything that Describe tells"),
    h("pre", { class: "code", tabindex: "0" }, JSON.stringify(description, null, 2)));

/** The button that ends a job, and what came of it. */
export class Stop {
  constructor(kind, name, refresh) {
    Object.assign(this, { kind, name, refresh, asked: false, refused: "" });
  }

  async press() {
    if (!confirm(`Stop ${this.name}? What it has so far is kept.`)) return;
    this.asked = true;
    try {
      await post(address("stop", this.kind, this.name));
      this.refused = "";
    } catch (error) {
      this.asked = false;
      this.refused = error.message;
    }
    this.refresh();
  }

  render(status) {
    if (status !== "InProgress") return null;
    return h("span", { class: "stop" },
      h("button", { type: "button", class: "danger", disabled: this.asked, onclick: () => this.press() }, "Stop"),
      this.refused && h("span", { role: "alert" }, this.refused));
  }
}

const mostLines = 5000;

/** The end of a log, which follows what is written unless somebody has scrolled up. */
export class Log {
  constructor(kind, name) {
    Object.assign(this, { kind, name, position: {}, last: "", follows: true });
    this.lines = keep(h("div", { class: "log", role: "log", "aria-live": "off", "aria-label": "Log lines", tabindex: "0" }));
    this.lines.onscroll = ({ target }) => {
      this.follows = target.scrollHeight - target.scrollTop - target.clientHeight < 8;
    };
  }

  async load() {
    const query = { position: JSON.stringify(this.position) };
    const found = await get(address("log", this.kind, this.name), query);
    this.position = found.position;
    const box = this.lines;
    if (found.left_out) box.append(h("div", { class: "cut" }, `… ${found.left_out} lines before`));
    box.append(...found.lines.map(([at, stream, text]) => this.line(at, stream, text)));
    while (box.childElementCount > mostLines) box.firstChild.remove();
    return found.lines.length > 0;
  }

  line(at, stream, text) {
    const changed = stream !== this.last;
    this.last = stream;
    const clock = h("time", {}, new Date(at).toLocaleTimeString([], { hour12: false }));
    return h("div", {}, clock, changed && h("b", {}, stream), h("span", {}, text));
  }

  render() {
    if (this.follows) queueMicrotask(() => (this.lines.scrollTop = this.lines.scrollHeight)); // when it is in its place
    return section("Log", this.lines.childElementCount ? this.lines : h("p", { class: "empty" }, "No lines yet."));
  }
}

export const times = (start, end) => [
  ["Created", format.time(start)],
  ["Ended", end && format.time(end)],
];
