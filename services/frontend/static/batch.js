// Files that were chosen together: their cards under one heading, with one progress, one cost and one download.

import * as api from "./api.js";
import { FINAL } from "./card.js";
import { make } from "./dom.js";
import { money } from "./facts.js";

const PAUSE_MS = 700;

export class Batch {
  // act (button, doing): does something, and tells what went wrong; stop (id): takes back uploads of the batch.
  constructor(id, act, stop) {
    this.id = id;
    this.place = make("ul", { class: "jobs" });
    this.title = make("h3", { id: `batch-${id}` });
    this.told = make("p", { class: "help" });
    this.bar = make("progress", { max: "100", value: 0, "aria-label": "Progress of all of them" });
    this.cancel = make("button", { type: "button", onclick: ({ target }) => act(target, () => { stop(id); return api.cancelBatch(id); }) }, "Cancel the rest");
    this.download = make("a", { class: "button", href: `/api/v1/batches/${id}/result`, download: "" }, "Download these");
    this.element = make("li", { class: "batch", "aria-labelledby": this.title.id },
      make("div", { class: "batch-head" }, make("div", {}, this.title, this.told), this.bar, make("div", { class: "row" }, this.cancel, this.download)),
      this.place);
    this.look();
  }

  // Asks soon how all of them are; many changes are one question.
  look() {
    this.timer ??= setTimeout(async () => {
      const batch = await api.batch(this.id).catch((error) => { if (error.status === 404) this.element.remove(); });
      this.timer = undefined;
      if (batch) this.tell(batch);
    }, PAUSE_MS);
  }

  tell({ total, progress, counts, final, cost }) {
    const { done = 0, failed = 0, canceled = 0 } = counts;
    const open = total - done - failed - canceled, worth = money(cost);
    this.title.textContent = total === 1 ? "1 image" : `${total.toLocaleString()} images`;
    const parts = [[done, "done"], [open, "under way"], [failed, "failed"], [canceled, "canceled"]];
    this.told.textContent = parts.filter(([count]) => count).map(([count, word]) => `${count.toLocaleString()} ${word}`).join(", ") + (worth ? ` · ${worth}` : "");
    this.bar.value = progress;
    this.bar.hidden = this.cancel.hidden = final;
    this.download.hidden = !done;
  }

  // A card of it has changed.
  changed(status) {
    if (FINAL.has(status)) this.look();
  }
}
