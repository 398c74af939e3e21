// An endpoint, and a form that asks it.

import { address, get } from "./api.js";
import { h, keep } from "./dom.js";
import * as format from "./format.js";
import { all, count, facts, failure, heading, Log, row, section, table, times } from "./parts.js";

const types = ["text/csv", "application/json", "application/jsonlines", "text/libsvm", "text/plain"];
const accepted = ["", "application/json", "application/jsonlines", "text/csv"];
const patience = 70_000; // milliseconds; a model has 60 s
const shown = 100_000; // characters of an answer

export class Endpoint {
  constructor(name, refresh) {
    Object.assign(this, { name, title: name, refresh });
    this.log = new Log("endpoints", name);
    this.form = keep(form((values) => this.ask(values)));
    this.answer = null;
  }

  async load() {
    this.all = await get(address("describe", "endpoints", this.name));
    await this.log.load();
    this.options();
  }

  get variants() {
    const configured = this.all.config?.ProductionVariants ?? [];
    const running = this.all.description.ProductionVariants ?? configured;
    return running.map((each) => ({ ...configured.find(({ VariantName }) => VariantName === each.VariantName), ...each }));
  }

  /** Offer the variants there are now. */
  options() {
    const select = this.form.elements.variant;
    const names = ["", ...this.variants.map((each) => each.VariantName)];
    if (names.join("\n") === [...select.options].map((option) => option.value).join("\n")) return;
    const chosen = select.value;
    select.replaceChildren(...names.map((name) => h("option", { value: name }, name || "by weight")));
    if (names.includes(chosen)) select.value = chosen;
  }

  async ask({ type, accept, variant, model, body }) {
    const headers = { "Content-Type": type };
    if (accept) headers.Accept = accept;
    if (variant) headers["X-Amzn-SageMaker-Target-Variant"] = variant;
    if (model) headers["X-Amzn-SageMaker-Target-Model"] = model;
    this.answer = { waiting: true };
    this.refresh();
    const start = performance.now();
    try {
      const signal = AbortSignal.timeout(patience);
      const response = await fetch(`/endpoints/${encodeURIComponent(this.name)}/invocations`, { method: "POST", headers, body, signal });
      const content = await response.arrayBuffer();
      this.answer = { response, milliseconds: performance.now() - start, ...read(content) };
    } catch (error) {
      this.answer = { failed: error.message };
    }
    this.refresh();
  }

  render() {
    const { description: endpoint, models } = this.all;
    return [
      heading(endpoint.EndpointName, endpoint.EndpointStatus),
      failure(endpoint.FailureReason),
      section("Endpoint", facts([
        ["Configuration", endpoint.EndpointConfigName], ...times(endpoint.CreationTime),
        ["Changed", format.time(endpoint.LastModifiedTime)],
      ])),
      section("Variants", table("Variants", ["Name", "Model", "Instance", number("Count"), number("Weight")],
        this.variants.map((each) => row([
          each.VariantName, each.ModelName, each.InstanceType ?? (each.ServerlessConfig ? "serverless" : "–"),
          count(each.CurrentInstanceCount ?? each.InitialInstanceCount ?? "–"),
          count(format.number(each.CurrentWeight ?? each.InitialVariantWeight)),
        ])))),
      Object.keys(models).length > 0 && section("Models", Object.entries(models).map(([name, model]) => containers(name, model))),
      section("Try it", this.form, h("div", { id: "answer", "aria-live": "polite" }, this.told())),
      this.log.render(),
      all(endpoint),
    ].filter(Boolean);
  }

  told() {
    const answer = this.answer;
    if (!answer) return [];
    if (answer.waiting) return h("p", {}, "Waiting for the answer …");
    if (answer.failed) return h("p", { class: "failure" }, `No answer: ${answer.failed}`);
    const { response } = answer;
    return [
      facts([
        ["Status", h("span", { class: `badge ${response.ok ? "good" : "bad"}` }, String(response.status))],
        ["Latency", `${answer.milliseconds.toFixed(1)} ms`],
        ["Content type", response.headers.get("Content-Type")],
        ["Variant", response.headers.get("x-Amzn-Invoked-Production-Variant")],
        ["Size", format.bytes(answer.size)],
      ]),
      h("pre", { class: "code", tabindex: "0", "aria-label": "Body of the answer" }, answer.text),
    ];
  }
}

const number = (text) => h("th", { scope: "col", class: "number" }, text);

function containers(name, model) {
  if (!model) return h("p", {}, `${name} has been deleted.`);
  const found = model.Containers ?? [model.PrimaryContainer];
  return [h("h3", {}, name), table(`Containers of ${name}`, ["Image", "Mode", "Data", "Environment"], found.map((each) => row([
    format.image(each.Image), each.Mode ?? "SingleModel",
    h("code", {}, each.ModelDataUrl ?? each.ModelDataSource?.S3DataSource?.S3Uri ?? "–"),
    (each.Environment ?? []).join(", ") || "–",
  ])))];
}

function form(send) {
  const submit = (event) => {
    event.preventDefault();
    send(Object.fromEntries(new FormData(event.target)));
  };
  const known = (id, values) => h("datalist", { id }, values.map((value) => h("option", { value })));
  const field = (label, control) => h("label", {}, h("span", {}, label), control);
  const text = (name, more) => h("input", { name, autocomplete: "off", spellcheck: "false", ...more });
  return h("form", { onsubmit: submit },
    h("div", { class: "fields" },
      field("Content type", text("type", { value: types[0], list: "types", required: true })),
      field("Accept", text("accept", { list: "accepted", placeholder: "the model's own" })),
      field("Target variant", h("select", { name: "variant" })),
      field("Target model", text("model", { placeholder: "of a multi-model endpoint" }))),
    field("Body", h("textarea", { name: "body", rows: "5", spellcheck: "false", placeholder: "1.5,2.0,0.3" })),
    h("div", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Predict")),
    known("types", types), known("accepted", accepted.filter(Boolean)));
}

/** An answer's body as text, where it is one. */
function read(content) {
  const bytes = new Uint8Array(content);
  if (bytes.includes(0)) return { size: bytes.length, text: `(${format.bytes(bytes.length)} that are no text)` };
  const text = new TextDecoder().decode(bytes);
  return { size: bytes.length, text: text.length > shown ? `${text.slice(0, shown)}\n… ` : text };
}
