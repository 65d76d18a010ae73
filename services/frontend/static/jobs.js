// The list of one's jobs: cards that change as the events come, those of a batch together.

import * as api from "./api.js";
import { Batch } from "./batch.js";
import { Card, WORDS } from "./card.js";
import { find, notice, say } from "./dom.js";
import { Watcher } from "./watch.js";

export class Jobs {
  constructor(list, view) {
    this.list = list;
    this.cards = new Map();
    this.batches = new Map();
    this.titles = new Map();
    this.triedAgain = new Set();
    this.watcher = new Watcher((event) => this.changed(event));
    this.cursor = "";
    this.stopUploads = () => {};
    this.acts = {
      view,
      cancel: (job, button) => this.act(button, () => api.cancel(job.id)),
      retry: (job, button) => this.act(button, async () => (await this.retry(job.id)).focus()),
      remove: (job, button) => {
        if (confirm(`Remove ${job.name} and its result for good?`)) this.act(button, async () => { await this.forget(job.id); this.drop(job.id); });
      },
      titleOf: (type) => this.titles.get(type) ?? type,
    };
  }

  async load(more = false) {
    const page = await api.jobs(more ? this.cursor : "");
    for (const job of page.jobs) this.show(job, true);
    this.cursor = page.cursor ?? "";
    find("older").hidden = !this.cursor;
    this.summarise();
  }

  // A job that tries another again stands for both: the older one is not shown any more.
  show(job, atEnd = false) {
    if (this.triedAgain.has(job.id)) return;
    const card = this.cards.get(job.id) ?? this.add(job, atEnd);
    card.update(job);
    if (!card.final) this.watcher.add(job.id, card.job.batch, atEnd);
    this.batches.get(job.batch)?.look();
    this.summarise();
  }

  add(job, atEnd) {
    const card = new Card(job, this.acts);
    this.cards.set(job.id, card);
    if (job.revived_from) this.triedAgain.add(job.revived_from);
    const before = this.cards.get(job.revived_from);
    if (before) {
      before.element.replaceWith(card.element);
      this.drop(before.job.id);
      return card;
    }
    const place = job.batch ? this.batch(job.batch, atEnd).place : this.list;
    if (atEnd) place.append(card.element);
    else place.prepend(card.element);
    return card;
  }

  batch(id, atEnd) {
    if (!this.batches.has(id)) {
      const batch = new Batch(id, {
        cancel: (button) => this.act(button, () => { this.stopUploads(id); return api.cancelBatch(id); }),
        retry: (button) => this.act(button, () => this.retryFailed(id)),
      });
      this.batches.set(id, batch);
      if (atEnd) this.list.append(batch.element);
      else this.list.prepend(batch.element);
    }
    return this.batches.get(id);
  }

  async retry(id) {
    const job = await api.retry(id);
    this.show(job);
    return this.cards.get(job.id);
  }

  async retryFailed(batch) {
    const failed = [...this.cards.values()].filter(({ job }) => job.batch === batch && job.status === "failed");
    if (!failed.length) throw new Error("Those that failed are further down: show older ones first.");
    for (const { job } of failed) await this.retry(job.id);
  }

  // What a job tried again goes before it, or would be seen after a reload.
  async forget(id) {
    const { revived_from: before } = await api.job(id);
    if (before) await this.forget(before).catch((error) => { if (error.status !== 404) throw error; });
    await api.forget(id);
  }

  changed(event) {
    const card = this.cards.get(event.id);
    if (!card) return;
    const before = card.job.status;
    if (event.status === "gone") this.drop(event.id);
    else card.update(event);
    if (card.final) this.watcher.remove(event.id);
    if (before !== event.status && card.final) say(`${card.job.name}: ${WORDS[event.status] ?? "gone"}.`);
    this.batches.get(card.job.batch)?.changed(event.status);
    this.summarise();
  }

  drop(id) {
    const card = this.cards.get(id);
    card?.element.remove();
    this.cards.delete(id);
    this.watcher.remove(id);
    this.batches.get(card?.job.batch)?.look();
    this.summarise();
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
    const all = [...this.cards.values()];
    const open = all.filter((card) => !card.final).length;
    const done = all.filter((card) => card.job.status === "done").length;
    find("summary").textContent = all.length ? `${done} done${open ? `, ${open} under way` : ""}` : "";
    find("empty").hidden = all.length > 0;
    find("download-all").hidden = done < 2;
  }
}
