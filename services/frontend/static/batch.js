// Files that were chosen together: their cards under one heading, with one progress, one cost and one download.

import * as api from "./api.js";
import { FINAL } from "./card.js";
import { make } from "./dom.js";
import { money } from "./facts.js";

const PAUSE_MS = 700;

export class Batch {
  // acts: cancel, retry (the button that was pressed).
  constructor(id, acts) {
    this.id = id;
    this.place = make("ul", { class: "jobs" });
    this.title = make("h3", { id: `batch-${id}` });
    this.told = make("p", { class: "help" });
    this.bar = make("progress", { max: "100", value: 0, "aria-label": "Progress of all of them" });
    this.cancel = make("button", { type: "button", onclick: ({ target }) => acts.cancel(target) }, "Cancel the rest");
    this.retry = make("button", { type: "button", onclick: ({ target }) => acts.retry(target) }, "Try the failed again");
    this.download = make("a", { class: "button", href: `/api/v1/batches/${id}/result`, download: "" }, "Download these");
    this.element = make("li", { class: "batch", "aria-labelledby": this.title.id },
      make("div", { class: "batch-head" }, make("div", {}, this.title, this.told), this.bar, make("div", { class: "row wrap" }, this.cancel, this.retry, this.download)),
      this.place);
    this.retry.hidden = this.download.hidden = true;
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
    this.retry.hidden = !failed;
  }

  // A card of it has changed.
  changed(status) {
    if (FINAL.has(status)) this.look();
  }
}
