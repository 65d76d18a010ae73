// The list of one's jobs: cards that change as the events come.

import * as api from "./api.js";
import { ago, duration, find, make, notice, say } from "./dom.js";
import { Watcher } from "./watch.js";

const FINAL = new Set(["done", "failed", "canceled", "gone"]);
const WORDS = {
  new: "Waiting", started: "Starting", "pre-processing": "Preparing", predicting: "Finding cells",
  "post-processing": "Drawing outlines", "saving-results": "Saving", waiting: "Working on its parts",
  done: "Done", failed: "Failed", canceled: "Canceled",
};

export class Jobs {
  constructor(list, view) {
    this.list = list;
    this.view = view;
    this.cards = new Map();
    this.titles = new Map();
    this.watcher = new Watcher((event) => this.changed(event));
    this.cursor = "";
  }

  async load(more = false) {
    const page = await api.jobs(more ? this.cursor : "");
    for (const job of page.jobs) this.show(job, true);
    this.cursor = page.cursor ?? "";
    find("older").hidden = !this.cursor;
    this.summarise();
  }

  show(job, atEnd = false) {
    let card = this.cards.get(job.id);
    if (!card) {
      card = { job, element: make("li", { class: "job", "data-id": job.id }) };
      this.cards.set(job.id, card);
      if (atEnd) this.list.append(card.element);
      else this.list.prepend(card.element);
    }
    card.job = { ...card.job, ...job };
    this.draw(card);
    if (!FINAL.has(card.job.status)) this.watcher.add(job.id);
    this.summarise();
  }

  changed(event) {
    const card = this.cards.get(event.id);
    if (!card) return;
    const before = card.job.status;
    if (event.status === "gone") {
      card.element.remove();
      this.cards.delete(event.id);
    } else {
      card.job = { ...card.job, ...event };
      this.draw(card);
    }
    if (FINAL.has(event.status)) this.watcher.remove(event.id);
    if (before !== event.status && FINAL.has(event.status)) say(`${card.job.name}: ${WORDS[event.status] ?? "gone"}.`);
    this.summarise();
  }

  draw(card) {
    const { job } = card;
    if (card.drawn !== job.status) {
      const focused = card.element.contains(document.activeElement);
      card.element.replaceChildren(this.picture(job), this.body(card));
      card.drawn = job.status;
      if (focused) card.element.querySelector("button, a")?.focus();
    }
    card.state.replaceChildren(...stateOf(job));
    if (card.bar) card.bar.value = job.progress;
  }

  picture(job) {
    if (job.status === "done" && job.links.preview) {
      const image = make("img", { src: job.links.preview, alt: "", loading: "lazy", width: "330", height: "180" });
      return make("button", { class: "thumb", type: "button", "aria-label": `View ${job.name}`, onclick: () => this.view(job) }, image);
    }
    return make("div", { class: "thumb" }, FINAL.has(job.status) ? "" : "⋯");
  }

  body(card) {
    const { job } = card;
    card.state = make("p", { class: "state" });
    card.bar = FINAL.has(job.status) ? null
      : make("progress", { max: "100", "aria-label": `Progress of ${job.name}` });
    return make("div", { class: "body" },
      make("div", { class: "name", title: job.name }, job.name || job.id),
      make("p", { class: "meta" }, make("span", {}, job.item_type ? `${this.titles.get(job.item_type) ?? job.item_type}, an archive` : this.titleOf(job)),
        make("time", { datetime: job.created_at ?? "" }, ago(job.created_at))),
      card.state, card.bar, make("div", { class: "actions" }, ...this.actions(job)));
  }

  titleOf(job) {
    const type = job.type ?? job.id.split(":")[0];
    return this.titles.get(type) ?? type;
  }

  actions(job) {
    const button = (text, act) => make("button", { type: "button", onclick: (event) => this.act(event.target, act) }, text);
    if (!FINAL.has(job.status)) return [button("Cancel", () => api.cancel(job.id))];
    if (job.status !== "done") return [button("Try again", async () => this.show(await api.retry(job.id)))];
    return [
      (job.links.view || job.item_type) && make("button", { type: "button", class: "primary", onclick: () => this.view(job) }, "View"),
      job.links.result && make("a", { class: "button", href: job.links.result, download: "" }, "Download"),
    ];
  }

  async act(button, act) {
    button.disabled = true;
    try {
      await act();
      notice("");
    } catch (error) {
      notice(error.message);
    } finally {
      button.disabled = false;
    }
  }

  summarise() {
    const all = [...this.cards.values()].map((card) => card.job.status);
    const open = all.filter((status) => !FINAL.has(status)).length;
    const done = all.filter((status) => status === "done").length;
    find("summary").textContent = all.length ? `${done} done${open ? `, ${open} under way` : ""}` : "";
    find("empty").hidden = all.length > 0;
    find("download-all").hidden = done < 2;
  }

  downloads() {
    return [...this.cards.values()].filter((card) => card.job.status === "done").map((card) => card.job.links.result).filter(Boolean);
  }
}

function stateOf(job) {
  const kind = job.status === "done" ? "done" : job.status === "failed" ? "failed" : "busy";
  const badge = make("span", { class: `badge ${kind}` }, WORDS[job.status] ?? job.status);
  if (job.status === "failed" || job.status === "canceled") return [badge, job.reason ? `. ${job.reason}` : ""];
  const failed = Object.keys(job.failures ?? {}).length;
  if (job.status === "done") {
    const took = job.finished_at ? (new Date(job.finished_at) - new Date(job.created_at)) / 1000 : 0;
    return [badge, took > 0 ? ` in ${duration(took)}` : "", failed ? `, but ${failed} of its images failed` : ""];
  }
  const place = job.position ? `, number ${job.position} in your queue` : "";
  const left = job.eta ? `, about ${duration(job.eta)} left` : "";
  return [badge, job.status === "new" ? place : ` ${job.progress} %`, left];
}
