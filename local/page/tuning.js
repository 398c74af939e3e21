// A tuning job: its training jobs as a table and a scatter.

import { address, get } from "./api.js";
import { scatter } from "./chart.js";
import { h } from "./dom.js";
import * as format from "./format.js";
import { all, badge, count, ended, facts, failure, heading, row, section, Stop, table, times } from "./parts.js";

const numeric = (text) => (text !== undefined && text !== "" && Number.isFinite(Number(text)) ? Number(text) : text);

export class Tuning {
  sorted = { by: "Created", falling: false };
  chosen = null;

  constructor(name, refresh) {
    Object.assign(this, { name, title: name, refresh, done: false, trials: [] });
    this.stop = new Stop("tuning", name, refresh);
  }

  async load() {
    this.found = (await get(address("describe", "tuning", this.name))).description;
    if (this.done) return;
    const over = ended(this.found.HyperParameterTuningJobStatus);
    this.trials = (await get(address("trials", "tuning", this.name))).trials.map(trial);
    this.done = over;
  }

  get definitions() {
    const job = this.found;
    return job.TrainingJobDefinitions ?? (job.TrainingJobDefinition ? [job.TrainingJobDefinition] : []);
  }

  get objective() {
    const config = this.found.HyperParameterTuningJobConfig;
    return config.HyperParameterTuningJobObjective ?? this.definitions[0]?.TuningObjective ?? {};
  }

  get ranges() {
    const given = [this.found.HyperParameterTuningJobConfig.ParameterRanges,
      ...this.definitions.map((each) => each.HyperParameterRanges)];
    return given.flatMap((each) => Object.values(each ?? {}).flat());
  }

  get names() {
    return [...new Set(this.trials.flatMap((each) => Object.keys(each.parameters)))].sort();
  }

  render() {
    const job = this.found;
    const status = job.HyperParameterTuningJobStatus;
    const limits = job.HyperParameterTuningJobConfig.ResourceLimits ?? {};
    const counters = job.TrainingJobStatusCounters ?? {};
    const counted = Object.entries(counters).filter(([, many]) => many).map(([name, many]) => `${many} ${name}`);
    return [
      heading(job.HyperParameterTuningJobName, status, this.stop.render(status)),
      failure(job.FailureReason),
      section("Tuning job", facts([
        ["Strategy", job.HyperParameterTuningJobConfig.Strategy],
        ["Objective", this.objective.MetricName && `${this.objective.Type} ${this.objective.MetricName}`],
        ["Best", job.BestTrainingJob?.TrainingJobName && link(job.BestTrainingJob.TrainingJobName)],
        ["Best objective", this.best && format.number(this.best.objective)],
        ["Training jobs", `${this.trials.length} of at most ${limits.MaxNumberOfTrainingJobs ?? "–"}, ` +
          `${limits.MaxParallelTrainingJobs ?? "–"} at a time`],
        ["Statuses", counted.join(", ")],
        ...times(job.CreationTime, job.HyperParameterTuningEndTime),
      ])),
      this.picture(),
      section("Training jobs", this.table()),
      all(job),
    ].filter(Boolean);
  }

  get best() {
    return this.trials.find((each) => each.name === this.found.BestTrainingJob?.TrainingJobName);
  }

  picture() {
    const names = this.names;
    if (!names.length) return null;
    const isNumber = (name) => this.trials.some((each) => typeof each.parameters[name] === "number");
    const chosen = names.includes(this.chosen) ? this.chosen : (names.find(isNumber) ?? names[0]);
    const range = this.ranges.find((each) => each.Name === chosen);
    const points = this.trials.map((each) => ({
      x: each.parameters[chosen] ?? null,
      y: each.objective,
      best: each === this.best,
      title: `${each.name}${each === this.best ? " (best)" : ""}: ${chosen} ${each.parameters[chosen]}, ` +
        `objective ${format.number(each.objective)}`,
      href: `#/${address("training", each.name)}`,
    }));
    const choose = (event) => {
      this.chosen = event.target.value;
      this.refresh();
    };
    const labels = { x: chosen, y: this.objective.MetricName ?? "objective" };
    return section("Objective against a hyperparameter",
      h("label", { class: "search" }, "Hyperparameter",
        h("select", { onchange: choose }, names.map((name) => h("option", { value: name, selected: name === chosen }, name)))),
      h("div", { class: "scatter-box" }, scatter(points, labels, /Log/.test(range?.ScalingType ?? ""))));
  }

  table() {
    const names = this.names;
    const columns = [
      ["Name", (each) => each.name], ["Status", (each) => each.status], ["Objective", (each) => each.objective],
      ...names.map((name) => [name, (each) => each.parameters[name]]),
      ["Created", (each) => each.created], ["Duration", (each) => (each.ended ?? Infinity) - each.created],
    ];
    const value = (columns.find(([name]) => name === this.sorted.by) ?? columns[0])[1];
    const rows = [...this.trials].sort((one, other) => compare(value(one), value(other), this.sorted.falling));
    return table("Training jobs of the tuning job", columns.map(([name]) => this.column(name)), rows.map((each) => row([
      h("td", { class: "name" }, link(each.name), each === this.best && h("span", { class: "mark" }, "★ best"),
        each.reason && h("small", { class: "reason" }, each.reason)),
      badge(each.status),
      count(format.number(each.objective)),
      ...names.map((name) => count(parameter(each.parameters[name]))),
      format.time(each.created),
      count(format.duration(each.created, each.ended)),
    ], each === this.best ? { class: "best-row" } : {})), "No training jobs yet.");
  }

  column(name) {
    const { by, falling } = this.sorted;
    const order = by !== name ? "none" : falling ? "descending" : "ascending";
    const press = () => {
      this.sorted = { by: name, falling: by === name && !falling };
      this.refresh();
    };
    const number = !["Name", "Status", "Created"].includes(name);
    return h("th", { scope: "col", "aria-sort": order, class: number && "number" },
      h("button", { type: "button", class: "sort", onclick: press }, name,
        h("span", { "aria-hidden": "true" }, { none: "", ascending: " ▲", descending: " ▼" }[order])));
  }
}

const link = (name) => h("a", { href: `#/${address("training", name)}` }, name);
const parameter = (value) => (typeof value === "number" ? format.number(value) : value ?? "–");

function trial(summary) {
  const tuned = Object.entries(summary.TunedHyperParameters ?? {});
  return {
    name: summary.TrainingJobName,
    status: summary.TrainingJobStatus,
    objective: summary.FinalHyperParameterTuningJobObjectiveMetric?.Value ?? null,
    parameters: Object.fromEntries(tuned.map(([name, value]) => [name, numeric(value)])),
    created: summary.CreationTime,
    ended: summary.TrainingEndTime,
    reason: summary.FailureReason,
  };
}

/** Order of two values; what is missing comes last. */
function compare(one, other, falling) {
  const missing = (value) => value === null || value === undefined;
  if (missing(one) || missing(other)) return missing(one) - missing(other);
  const order = typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other));
  return falling ? -order : order;
}
