// One image in the list: its picture, how far it is, and what can be done with it.

import { ago, duration, make } from "./dom.js";
import { money } from "./facts.js";

export const FINAL = new Set(["done", "failed", "canceled", "gone"]);
export const WORDS = {
  new: "Waiting", started: "Starting", "pre-processing": "Preparing", predicting: "Finding cells",
  "post-processing": "Drawing outlines", "saving-results": "Saving", waiting: "Working on its parts",
  done: "Done", failed: "Failed", canceled: "Canceled",
};

export class Card {
  // acts: view, cancel, retry, remove (job); titleOf (job type).
  constructor(job, acts) {
    this.acts = acts;
    this.element = make("li", { class: "job", "data-id": job.id });
    this.update(job);
  }

  get final() {
    return FINAL.has(this.job.status);
  }

  update(job) {
    this.job = { ...this.job, ...job };
    if (this.drawn !== this.job.status) this.draw();
    this.state.replaceChildren(...stateOf(this.job));
    if (this.bar) this.bar.value = this.job.progress;
  }

  draw() {
    const focused = this.element.contains(document.activeElement);
    this.element.replaceChildren(...[this.picture(), this.body()].filter(Boolean));
    this.drawn = this.job.status;
    if (focused) this.focus();
  }

  focus() {
    this.element.querySelector("button, a")?.focus();
  }

  picture() {
    const { job } = this;
    if (!this.final) return make("div", { class: "thumb busy" });
    if (!job.links.preview) return null;
    const image = make("img", { src: job.links.preview, alt: "", loading: "lazy", width: "330", height: "180" });
    return make("button", { class: "thumb", type: "button", "aria-label": `View ${job.name}`, onclick: () => this.acts.view(this.job) }, image);
  }

  body() {
    const { job } = this;
    this.state = make("p", { class: "state" });
    this.bar = this.final ? null : make("progress", { max: "100", "aria-label": `Progress of ${job.name}` });
    return make("div", { class: "body" },
      make("h3", { class: "name", title: job.name }, job.name || job.id),
      make("p", { class: "meta" }, make("span", {}, this.title()), make("time", { datetime: job.created_at ?? "" }, ago(job.created_at))),
      this.state, this.bar, make("div", { class: "actions" }, ...this.actions()));
  }

  title() {
    const { job } = this, { titleOf } = this.acts;
    return job.item_type ? `${titleOf(job.item_type)}, an archive` : titleOf(job.type ?? job.id.split(":")[0]);
  }

  actions() {
    const { job, acts } = this;
    const button = (text, act, kind = "") =>
      make("button", { type: "button", class: kind, "aria-label": `${text} ${job.name}`, onclick: (event) => act(this.job, event.target) }, text);
    if (!this.final) return [button("Cancel", acts.cancel)];
    const done = job.status === "done";
    return [
      done && (job.links.view || job.item_type) && button("View", acts.view, "primary"),
      done && job.links.result && make("a", { class: "button", href: job.links.result, download: "", "aria-label": `Download ${job.name}` }, "Download"),
      !done && button("Try again", acts.retry),
      button("Remove", acts.remove, "plain"),
    ];
  }
}

function stateOf(job) {
  const kind = job.status === "done" ? "done" : job.status === "failed" ? "failed" : "busy";
  const badge = make("span", { class: `badge ${kind}` }, WORDS[job.status] ?? job.status);
  if (job.status === "failed" || job.status === "canceled") return [badge, job.reason ? `. ${job.reason}` : ""];
  if (job.status === "done") {
    const took = job.finished_at ? (new Date(job.finished_at) - new Date(job.created_at)) / 1000 : 0;
    const failed = Object.keys(job.failures ?? {}).length, cost = money(job.cost);
    return [badge, took > 0 ? ` in ${duration(took)}` : "", failed ? `, but ${failed} of its images failed` : "", cost ? ` for ${cost}` : ""];
  }
  const place = job.position ? `, number ${job.position} in your queue` : "";
  const left = job.eta ? `, about ${duration(job.eta)} left` : "";
  return [badge, job.status === "new" ? place : ` ${job.progress} %`, left];
}
