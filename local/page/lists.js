// The overview, and lists of things.

import { address, get } from "./api.js";
import { h } from "./dom.js";
import * as format from "./format.js";
import { badge, count, ended, facts, heading, row, table } from "./parts.js";

export const kinds = {
  training: "Training",
  tuning: "Tuning",
  transform: "Transform",
  endpoints: "Endpoints",
};

const nouns = {
  training: "training jobs",
  tuning: "tuning jobs",
  transform: "transform jobs",
  endpoints: "endpoints",
};

function things(kind, rows) {
  const jobs = kind !== "endpoints";
  const columns = ["Name", "Status", "Created", ...(jobs ? ["Duration"] : [])];
  const number = (text) => (text === "Duration" ? h("th", { scope: "col", class: "number" }, text) : text);
  return table(nouns[kind], columns.map(number), rows.map((thing) => row([
    h("td", { class: "name" }, h("a", { href: `#/${address(kind, thing.name)}` }, thing.name),
      thing.parent && h("small", {}, " of ", h("a", { href: `#/${address("tuning", thing.parent)}` }, thing.parent))),
    h("td", {}, badge(thing.status), doing(thing)),
    format.time(thing.created),
    ...(jobs ? [count(format.duration(thing.created, ended(thing.status) ? thing.ended : undefined))] : []),
  ])), `No ${nouns[kind]} yet.`);
}

const doing = ({ status, secondary }) =>
  !ended(status) && secondary && secondary !== status && h("small", {}, ` ${secondary}`);

export class Overview {
  title = "Overview";

  async load() {
    this.found = await get("overview");
  }

  render() {
    const found = this.found;
    return [
      heading("Overview"),
      h("div", { class: "card" }, facts([
        ["Address", location.origin], ["Region", found.region], ["Account", found.account],
        ["State folder", h("code", {}, found.state)],
      ])),
      ...Object.entries(kinds).map(([kind, title]) => h("section", { class: "card" },
        h("div", { class: "heading" }, h("h2", {}, title),
          found[kind].next && h("a", { href: `#/${kind}` }, `all ${nouns[kind]}`)),
        things(kind, found[kind].things))),
    ];
  }
}

export class List {
  contains = "";
  pages = [""]; // tokens of this page and those before it

  constructor(kind, refresh, again) {
    Object.assign(this, { kind, again, title: kinds[kind] });
  }

  async load() {
    const token = this.pages.at(-1);
    const query = { ...(this.contains && { contains: this.contains }), ...(token && { next: token }) };
    this.found = await get(address("list", this.kind), query);
  }

  turn(pages) {
    this.pages = pages;
    this.again();
  }

  render() {
    const input = (event) => {
      this.contains = event.target.value;
      this.turn([""]);
    };
    return [
      heading(this.title),
      h("section", { class: "card" },
        h("label", { class: "search" }, "Name contains",
          h("input", { type: "search", autocomplete: "off", spellcheck: "false", maxlength: "63", oninput: input })),
        things(this.kind, this.found.things),
        h("div", { class: "buttons" },
          this.pages.length > 1 && h("button", { type: "button", onclick: () => this.turn(this.pages.slice(0, -1)) }, "Newer"),
          this.found.next && h("button", { type: "button", onclick: () => this.turn([...this.pages, this.found.next]) }, "Older"))),
    ];
  }
}
