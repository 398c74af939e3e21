// A training job, or a transform job.

import { address, get } from "./api.js";
import { curves } from "./chart.js";
import { h } from "./dom.js";
import * as format from "./format.js";
import { all, ended, facts, failure, heading, Log, row, section, Stop, table, times } from "./parts.js";

class Job {
  constructor(kind, name, refresh) {
    Object.assign(this, { kind, name, title: name, done: false });
    this.stop = new Stop(kind, name, refresh);
    this.log = new Log(kind, name);
  }

  async load() {
    this.found = (await get(address("describe", this.kind, this.name))).description;
    if (this.done) return;
    const news = await this.more();
    this.done = !news && ended(this.status);
  }

  more() {
    return this.log.load();
  }
}

export class Training extends Job {
  metrics = new Map();
  count = 0;

  constructor(name, refresh) {
    super("training", name, refresh);
  }

  get status() {
    return this.found.TrainingJobStatus;
  }

  async more() {
    const news = await super.more();
    const { count, points } = await get(address("metrics", this.kind, this.name), { after: this.count });
    this.count = count;
    for (const [name, , value] of points) {
      if (!this.metrics.has(name)) this.metrics.set(name, []);
      this.metrics.get(name).push(value);
    }
    return news || points.length > 0;
  }

  render() {
    const job = this.found;
    return [
      heading(job.TrainingJobName, this.status, this.stop.render(this.status)),
      failure(job.FailureReason),
      section("Job", facts([
        ["Algorithm", format.image(job.AlgorithmSpecification.TrainingImage)],
        ["Instances", `${job.ResourceConfig.InstanceCount ?? 1} × ${job.ResourceConfig.InstanceType ?? "local"}`],
        ["Input mode", job.AlgorithmSpecification.TrainingInputMode],
        ...times(job.CreationTime, job.TrainingEndTime),
        ["Training time", job.TrainingStartTime && format.duration(job.TrainingStartTime, job.TrainingEndTime)],
        ["Tuning job", job.TuningJobArn && tuning(job.TuningJobArn)],
        ["Environment", job.Environment?.length > 0 && `${job.Environment.join(", ")} (values are not shown)`],
        ["Model", job.ModelArtifacts && h("code", {}, job.ModelArtifacts.S3ModelArtifacts)],
        ...(job.InputDataConfig ?? []).map((channel) => [`Channel ${channel.ChannelName}`, source(channel)]),
      ])),
      this.charts(),
      h("div", { class: "columns" },
        section("Hyperparameters", table("Hyperparameters", ["Name", "Value"], pairs(job.HyperParameters), "None.")),
        section("Transitions", this.transitions())),
      this.log.render(),
      all(job),
    ].filter(Boolean);
  }

  charts() {
    const groups = new Map(); // train:rmse and validation:rmse belong together
    for (const [name, values] of [...this.metrics].sort(([one], [other]) => one.localeCompare(other))) {
      const title = name.replace(/^(train|validation|test):/, "");
      groups.set(title, [...(groups.get(title) ?? []), { name, values }]);
    }
    if (!groups.size) return section("Metrics", h("p", { class: "empty" }, "None yet."));
    const isCurve = ([, series]) => series.some(({ values }) => values.length > 1);
    const drawn = [...groups].filter(isCurve).map(([title, series]) => curves(title, series));
    const single = [...groups].filter((each) => !isCurve(each)).flatMap(([, series]) => series);
    return section("Metrics", single.length > 0 && facts(single.map(({ name, values }) => [name, format.number(values[0])])),
      drawn.length > 0 && h("div", { class: "charts" }, drawn));
  }

  transitions() {
    return table("Secondary status transitions", ["Status", "Start", "Duration", "Message"],
      this.found.SecondaryStatusTransitions.map((each) => row([
        each.Status, format.time(each.StartTime), format.duration(each.StartTime, each.EndTime), each.StatusMessage,
      ])));
  }
}

export class Transform extends Job {
  constructor(name, refresh) {
    super("transform", name, refresh);
  }

  get status() {
    return this.found.TransformJobStatus;
  }

  render() {
    const job = this.found;
    return [
      heading(job.TransformJobName, this.status, this.stop.render(this.status)),
      failure(job.FailureReason),
      section("Job", facts([
        ["Model", job.ModelName],
        ["Instances", job.TransformResources && `${job.TransformResources.InstanceCount} × ${job.TransformResources.InstanceType}`],
        ["Input", h("code", {}, job.TransformInput?.DataSource?.S3DataSource?.S3Uri ?? "–")],
        ["Content type", job.TransformInput?.ContentType],
        ["Split", job.TransformInput?.SplitType],
        ["Strategy", job.BatchStrategy],
        ["Output", h("code", {}, job.TransformOutput?.S3OutputPath ?? "–")],
        ["Accept", job.TransformOutput?.Accept],
        ...times(job.CreationTime, job.TransformEndTime),
        ["Duration", job.TransformStartTime && format.duration(job.TransformStartTime, job.TransformEndTime)],
      ])),
      this.log.render(),
      all(job),
    ].filter(Boolean);
  }
}

const pairs = (values) =>
  Object.entries(values ?? {}).sort(([one], [other]) => one.localeCompare(other)).map(([name, value]) =>
    row([name, h("td", { class: "value" }, value)]));

function source(channel) {
  const { S3DataSource: s3, FileSystemDataSource: files } = channel.DataSource;
  return [h("code", {}, s3?.S3Uri ?? files?.DirectoryPath ?? "–"), channel.ContentType && ` ${channel.ContentType}`];
}

function tuning(arn) {
  const name = arn.split("/").pop();
  return h("a", { href: `#/${address("tuning", name)}` }, name);
}
