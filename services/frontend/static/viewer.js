// The viewer: a dialog with the picture, what was found on it, and the tools to look at both.

import * as api from "./api.js";
import { find, make, say } from "./dom.js";
import { factsOf } from "./facts.js";
import { sender } from "./send.js";
import { Channels } from "./view/channels.js";
import { Stage } from "./view/stage.js";

const PLAY_MS = 150;
const AHEAD = 3;
const PLANES = { T: "Frame", Z: "Slice" };

export class Viewer {
  constructor() {
    this.dialog = find("viewer");
    this.stage = new Stage(find("stage"), { moved: () => this.drawScale(), told: (data) => this.told(data) });
    this.channels = new Channels(find("channels"), () => this.look());
    this.listen();
  }

  async open(job) {
    this.job = job;
    this.reset(job);
    if (!this.dialog.open) this.dialog.showModal();
    history.replaceState(null, "", `#${job.id}`);
    find("stage").focus();
    if (job.item_type && job.total_jobs) await this.showItems(job);
    else if (job.links.view) this.load(job.links);
    else this.wait("There is no picture of this result. Download it to see what it holds.");
  }

  reset(job) {
    this.end();
    find("viewer-title").textContent = job.name;
    this.wait("Loading the picture…");
    find("count").textContent = "–";
    find("viewer-download").href = job.links.result ?? "";
    find("viewer-download").hidden = !job.links.result;
    this.send = sender(this.labelViewer, job);
    find("viewer-send").hidden = !this.send;
    find("viewer-error").textContent = "";
    for (const id of ["save-picture", "save-table", "item-field", "plane-bar", "layer-field", "spots-field", "tails-field", "cells-field"]) find(id).hidden = true;
    find("facts").replaceChildren(...factsOf(job).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  }

  // Tells in the picture's place why it is not there; perhaps with a small one.
  wait(text, preview) {
    find("viewer-wait").replaceChildren(text, ...(preview ? [make("img", { src: preview, alt: "The image with its outlines" })] : []));
    find("viewer-wait").hidden = !text;
  }

  // An archive's images are parts of its job, each with a view of its own.
  async showItems(job) {
    const items = find("item");
    items.replaceChildren(...Array.from({ length: job.total_jobs }, (_, n) => make("option", { value: String(n + 1) }, `Image ${n + 1} of ${job.total_jobs}`)));
    find("item-field").hidden = job.total_jobs < 2;
    await this.showItem(1);
  }

  async showItem(number) {
    const { job } = this;
    this.end();
    this.wait("Loading the picture…");
    const part = await api.job(`${job.item_type}:${job.id.split(":")[1]}.${number}`).catch(() => null);
    if (this.job !== job) return;
    find("viewer-title").textContent = part ? `${job.name} · ${part.name}` : job.name;
    if (part?.links.view) this.load(part.links);
    else this.wait(part?.reason ?? "There is no picture of this image.");
  }

  load({ view, preview }) {
    try {
      this.stage.open(view);
    } catch (error) {
      this.wait(`${error.message} Download the result to see more of it than this.`, preview);
    }
  }

  end() {
    clearInterval(this.playing);
    this.playing = this.settled = null;
    this.manifest = null;
    this.stage.close();
    this.drawPlay();
    delete this.dialog.dataset.ready;
  }

  told({ manifest, settled, cell, file, failed }) {
    if (manifest) this.show(manifest);
    else if (cell) this.tellCell(cell);
    else if (file) this.keep(file);
    else if (settled) {
      this.settled = settled.plane;
      this.wait("");
      if (settled.plane === this.plane) this.dialog.dataset.ready = "yes";
    } else if (failed) this.wait("The picture cannot be loaded just now. Close and open it again, or download the result.");
  }

  show(manifest) {
    this.manifest = manifest;
    Object.assign(this, { plane: 0, layer: 0 });
    this.channels.show(manifest);
    find("plane-bar").hidden = manifest.planes < 2;
    find("plane-name").textContent = PLANES[manifest.axis] ?? "Image";
    Object.assign(find("plane"), { max: String(manifest.planes - 1), value: "0" });
    find("play").hidden = manifest.axis !== "T" && manifest.axis !== "Z";
    find("layer").replaceChildren(...manifest.layers.map((layer, n) => make("option", { value: String(n) }, layer)));
    find("layer-field").hidden = manifest.layers.length < 2;
    find("save-picture").hidden = false;
    find("save-table").hidden = !Object.keys(manifest.labels).length;
    find("cells-field").hidden = !Object.keys(manifest.labels).length;
    find("spots-field").hidden = !Object.keys(manifest.points).length;
    find("tails-field").hidden = !manifest.tracks;
    this.drawScale();
    this.go(0);
  }

  // Shows a plane, and what is known of it.
  go(plane) {
    const { manifest } = this;
    if (!manifest) return;
    this.plane = Math.min(manifest.planes - 1, Math.max(0, plane));
    find("plane").value = String(this.plane);
    find("plane-out").textContent = `${this.plane + 1} of ${manifest.planes}`;
    const labels = manifest.labels[`${this.plane}/${this.layer}`], points = manifest.points[this.plane];
    find("count").textContent = (labels ?? points)?.count.toLocaleString() ?? "–";
    find("counted").textContent = labels ? manifest.layers[this.layer] ?? "cells" : "spots";
    find("spots-out").textContent = points?.count.toLocaleString() ?? "0";
    this.look();
  }

  // Tells the stage how all tools are set.
  look() {
    const { manifest, plane, layer } = this;
    for (const [id, unit] of [["opacity", " %"], ["tail", " frames"]]) find(`${id}-out`).textContent = `${find(id).value}${unit}`;
    if (!manifest) return;
    const on = (id) => find(id).checked;
    this.stage.set({
      plane, layer, looks: this.channels.looks, opacity: Number(find("opacity").value) / 100, outlines: on("outlines"), spots: on("spots"),
      tail: manifest.tracks && on("tails") ? Number(find("tail").value) : 0, ahead: this.playing ? AHEAD : 1,
    });
  }

  // -- cells --

  tellCell(cell) {
    find("under").replaceChildren(...(cell.id ? this.about(cell) : ["Point at a cell, or tap it, to see its id and area."]));
    if (!cell.stepped || cell.area === undefined) return;
    this.stage.centre(cell.x, cell.y);
    say(find("under").textContent);
  }

  about({ id, area, track }) {
    const size = this.manifest.pixel_size_um;
    const told = [make("strong", {}, `${track ? "Track" : "Cell"} ${id}`)];
    if (area !== undefined) told.push(`: ${area.toLocaleString()} px`);
    if (area !== undefined && size) told.push(` = ${(area * size * size).toFixed(1)} µm²`);
    if (track) told.push(make("br"), `Frames ${track.first + 1} to ${track.last + 1}${track.parent ? `, daughter of ${track.parent}` : ""}`);
    return told;
  }

  // -- tools --

  // Saves what the worker made, named after the image.
  keep({ blob, kind }) {
    const url = URL.createObjectURL(blob), stem = this.job.name.replace(/\.[^.]*$/, "");
    const plane = this.manifest.planes > 1 ? `-${(PLANES[this.manifest.axis] ?? "image").toLowerCase()}-${this.plane + 1}` : "";
    make("a", { href: url, download: `${stem}${plane}${kind === "table" ? "-cells.csv" : ".png"}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  // A bar of a round length, about a fifth of the picture's width.
  drawScale() {
    const size = this.manifest?.pixel_size_um;
    find("scale").hidden = !size;
    if (!size) return;
    const wish = 130 / this.stage.view.zoom * size;
    const ten = 10 ** Math.floor(Math.log10(wish));
    const length = [5, 2, 1].find((n) => n * ten <= wish) * ten;
    find("scale-bar").style.width = `${length / size * this.stage.view.zoom}px`;
    find("scale-text").textContent = length >= 1000 ? `${length / 1000} mm` : `${Number(length.toPrecision(1))} µm`;
  }

  play() {
    if (this.playing) { clearInterval(this.playing); this.playing = null; } else {
      // The next plane only when this one is there.
      this.playing = setInterval(() => {
        if (this.manifest && this.settled === this.plane) this.go((this.plane + 1) % this.manifest.planes);
      }, PLAY_MS);
    }
    this.drawPlay();
    this.look();
  }

  drawPlay() {
    find("play").textContent = this.playing ? "❚❚" : "▶";
    find("play").setAttribute("aria-label", this.playing ? "Stop" : "Play");
  }

  listen() {
    for (const id of ["opacity", "outlines", "spots", "tails", "tail"]) find(id).addEventListener("input", () => this.look());
    find("zoom-in").addEventListener("click", () => this.stage.zoom(1.5));
    find("zoom-out").addEventListener("click", () => this.stage.zoom(1 / 1.5));
    find("fit").addEventListener("click", () => this.stage.fit());
    find("plane").addEventListener("input", (event) => this.go(Number(event.target.value)));
    find("play").addEventListener("click", () => this.play());
    find("layer").addEventListener("change", (event) => { this.layer = Number(event.target.value); this.go(this.plane); });
    find("item").addEventListener("change", (event) => this.showItem(Number(event.target.value)));
    find("viewer-send").addEventListener("click", async () => {
      find("viewer-error").textContent = "";
      try { await this.send(); } catch (error) { find("viewer-error").textContent = error.message; }
    });
    for (const kind of ["picture", "table"]) find(`save-${kind}`).addEventListener("click", () => this.stage.save(kind));
    find("viewer-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => {
      if (this.dialog.open) return;  // opened again before the event came
      this.job = null;
      this.end();
      history.replaceState(null, "", location.pathname);
    });
    find("stage").addEventListener("keydown", (event) => this.pressed(event));
  }

  pressed(event) {
    const step = 60;
    const { stage } = this;
    const { x, y } = stage.view;
    const acts = {
      ArrowLeft: () => stage.move({ ...stage.view, x: x + step }), ArrowRight: () => stage.move({ ...stage.view, x: x - step }),
      ArrowUp: () => stage.move({ ...stage.view, y: y + step }), ArrowDown: () => stage.move({ ...stage.view, y: y - step }),
      "+": () => stage.zoom(1.25), "=": () => stage.zoom(1.25), "-": () => stage.zoom(0.8), 0: () => stage.fit(),
      n: () => stage.step(1), p: () => stage.step(-1), ",": () => this.go(this.plane - 1), ".": () => this.go(this.plane + 1),
      o: () => find("outlines").click(),
    };
    if (!this.manifest || !acts[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    acts[event.key]();
  }
}
