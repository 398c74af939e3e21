// The place that the address names, asked for every second while somebody looks.

import { Refused } from "./api.js";
import { h, show } from "./dom.js";
import { Endpoint } from "./endpoint.js";
import { Training, Transform } from "./job.js";
import { kinds, List, Overview } from "./lists.js";
import { heading } from "./parts.js";
import { Tuning } from "./tuning.js";

const pause = 1000; // milliseconds
const views = { training: Training, tuning: Tuning, transform: Transform, endpoints: Endpoint };
const [main, nav, gone] = ["main", "nav", "gone"].map((id) => document.getElementById(id));

let view = null;
let timer = 0;
let loading = null; // the view that is being asked for

const refresh = (which) => which === view && show(main, which.render());

/** Kind and name of the address's place. */
function place() {
  const [kind = "", ...name] = location.hash.replace(/^#\/?/, "").split("/");
  try {
    return [kind, decodeURIComponent(name.join("/"))];
  } catch {
    return [kind, name.join("/")];
  }
}

function open() {
  const [kind, name] = place();
  const refreshed = () => refresh(opened);
  const again = () => load(opened);
  let opened;
  if (!(kind in kinds)) opened = new Overview();
  else if (name) opened = new views[kind](name, refreshed);
  else opened = new List(kind, refreshed, again);
  const first = view === null;
  view = opened;
  document.title = `${view.title} · clary`;
  show(nav, Object.entries({ "": "Overview", ...kinds }).map(([word, title]) =>
    h("a", { href: `#/${word}`, "aria-current": (word === kind || (!word && opened instanceof Overview)) && "page" }, title)));
  main.replaceChildren();
  if (!first) main.focus();
  window.scrollTo(0, 0);
  load(opened);
}

/** Ask for what a view shows; once more, if it wants something else meanwhile. */
async function load(which) {
  clearTimeout(timer);
  if (which !== view) return;
  if (loading === which) {
    which.stale = true;
    return;
  }
  loading = which;
  try {
    await which.load();
    alive();
    if (which === view) show(main, which.render());
  } catch (error) {
    if (which === view) failed(which, error);
  }
  if (loading === which) loading = null;
  if (which !== view) return;
  clearTimeout(timer);
  if (which.stale) {
    which.stale = false;
    load(which);
  } else if (document.visibilityState === "visible") {
    timer = setTimeout(load, pause, which);
  }
}

function alive() {
  gone.hidden = true;
}

function failed(which, error) {
  if (error instanceof Refused && error.status === 404) {
    alive();
    show(main, [heading(which.title), h("p", { class: "empty" }, error.message)]);
    return;
  }
  const refused = error instanceof Refused;
  if (!refused && !/fetch|network|abort|time/i.test(`${error.name} ${error.message}`)) console.error(error);
  gone.textContent = refused ? `The platform refuses: ${error.message}` : "The platform does not answer. Trying again …";
  gone.hidden = false;
}

document.getElementById("skip").onclick = (event) => {
  event.preventDefault(); // the address names a place of ours
  main.focus();
};
window.addEventListener("hashchange", open);
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && load(view));
open();
