// Files on their way: a row for each, one line for all of them, and a job for each that has arrived.

import * as api from "./api.js";
import { find, make, size } from "./dom.js";
import { keepable, keeping } from "./kept.js";
import { upload } from "./upload.js";

const MANY = 4;

export class Intake {
  constructor(session, jobs) {
    Object.assign(this, { session, jobs, parts: [], left: 0 });
    // What the browser does not keep would be lost: it asks before it leaves.
    addEventListener("beforeunload", (event) => { if (this.parts.some((part) => !part.ended && !part.keepable)) event.preventDefault(); });
    find("sending-stop").addEventListener("click", () => this.stop());
  }

  // Uploads a file and submits it, as `wish` says; `id` makes a repeated try the same job.
  async one(file, wish, id) {
    const stop = new AbortController(), { me } = this.session;
    const row = new Row(file, stop), part = this.begin(file, stop, wish.batch);
    try {
      if (file.size > me.max_upload_bytes) throw new Error(`This file is larger than the ${size(me.max_upload_bytes)} allowed here.`);
      await keeping({ id, owner: me.owner, file, wish }, async () => {
        const progress = (share) => { row.bar.value = share; part.sent = share * part.size; this.summarise(); };
        const stored = await upload(file, { progress, said: (text) => row.say(text), signal: stop.signal });
        stop.signal.throwIfAborted();
        row.say("");
        this.jobs.show(await submitted({ ...wish, file: stored.file, name: file.name }, id, stop.signal));
      });
      row.element.remove();
    } catch (error) {
      if (stop.signal.aborted) return;
      row.fail(error.message);
      if (error.status === 401) this.session.ask();
    } finally {
      Object.assign(part, { sent: part.size, ended: true });
      this.left -= 1;
      this.summarise();
    }
  }

  // Takes back what is still on its way: of a batch, or all.
  stop(batch) {
    for (const part of this.parts) if (!part.ended && (batch === undefined || part.batch === batch)) part.stop.abort();
  }

  begin(file, stop, batch) {
    const part = { size: file.size, sent: 0, stop, batch, keepable: keepable(file) };
    if (!this.left) this.parts = [];
    this.parts.push(part);
    this.left += 1;
    this.summarise();
    return part;
  }

  summarise() {
    const { parts, left } = this;
    find("sending").hidden = parts.length < MANY || !left;
    const sum = (name) => parts.reduce((all, part) => all + part[name], 0);
    find("sending-bar").value = sum("sent") / Math.max(1, sum("size"));
    find("sending-text").textContent = `${parts.length - left} of ${parts.length} files sent · ${size(sum("sent"))} of ${size(sum("size"))}`;
  }
}

class Row {
  constructor(file, stop) {
    this.bar = make("progress", { max: "1", value: 0, "aria-label": `Upload of ${file.name}` });
    this.said = make("span", { class: "said" });
    this.button = make("button", { type: "button", class: "chip", "aria-label": `Stop ${file.name}` }, "Stop");
    this.element = make("li", {}, make("span", { class: "name", title: file.name }, `${file.name} · ${size(file.size)}`), this.bar, this.button, this.said);
    this.button.addEventListener("click", () => stop.abort());
    stop.signal.addEventListener("abort", () => this.element.remove());
    this.name = file.name;
    find("uploads").append(this.element);
  }

  say(text) {
    this.said.textContent = text;
  }

  // What went wrong is told first, above those that are still on their way.
  fail(text) {
    this.bar.hidden = true;
    this.said.className = "said error";
    this.said.setAttribute("role", "alert");
    this.say(text);
    this.button.textContent = "Dismiss";
    this.button.setAttribute("aria-label", `Dismiss ${this.name}`);
    find("uploads").prepend(this.element);
    this.element.scrollIntoView({ block: "nearest" });
  }
}

// One key for all tries: a lost answer never makes a second job.
async function submitted(wish, key, signal) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await api.submit(wish, key);
    } catch (error) {
      if (![0, 429, 503].includes(error.status) || tries > 60 || signal.aborted) throw error;
      await new Promise((done) => setTimeout(done, 1000 * (error.after || Math.min(10, tries + 1))));
    }
  }
}
