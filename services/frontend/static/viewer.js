// The viewer: a dialog with the picture, what was found on it, and the tools to look at both.

import * as api from "./api.js";
import { find, make, say } from "./dom.js";
import { Cells } from "./view/cells.js";
import { Channels } from "./view/channels.js";
import { Marks } from "./view/marks.js";
import { Stage } from "./view/stage.js";

const PLAY_MS = 150;
const PLANES = { T: "Frame", Z: "Slice" };

export class Viewer {
  constructor() {
    this.dialog = find("viewer");
    this.stage = new Stage(find("stage"), { moved: () => this.drawScale(), under: (x, y) => this.pointed(x, y) });
    this.channels = new Channels(find("channels"), (looks) => this.stage.set({ looks }));
    this.marks = new Marks();
    this.listen();
  }

  async open(job) {
    this.job = job;
    this.reset(job);
    if (!this.dialog.open) this.dialog.showModal();
    history.replaceState(null, "", `#${job.id}`);
    find("stage").focus();
    if (job.item_type && job.total_jobs) await this.showItems(job);
    else if (job.links.view) this.load(job.links.view);
    else this.wait("There is no picture of this result. Download it to see what it holds.");
  }

  reset(job) {
    this.end();
    find("viewer-title").textContent = job.name;
    this.wait("Loading the picture…");
    find("count").textContent = "–";
    find("viewer-download").href = job.links.result ?? "";
    const send = find("viewer-send");
    send.hidden = !(this.labelViewer && job.links.download);
    if (!send.hidden) send.href = this.labelViewer.replace("{url}", encodeURIComponent(job.links.download));
    for (const id of ["item-field", "plane-bar", "layer-field", "spots-field", "tails-field", "cells-field"]) find(id).hidden = true;
    this.facts(job);
  }

  wait(text) {
    find("viewer-wait").textContent = text;
    find("viewer-wait").hidden = !text;
  }

  facts(job) {
    const rows = [["Analysis", job.type ?? job.id.split(":")[0]], ["Model", [job.model, job.model_version].filter(Boolean).join(" ")],
      ...Object.entries(job.options ?? {}).map(([name, value]) => [name, String(value)]),
      ...Object.entries(job.seconds ?? {}).map(([stage, value]) => [`${stage} time`, `${[value].flat().map((s) => s.toFixed(2)).join(", ")} s`]),
      ["Job", job.id]];
    find("facts").replaceChildren(...rows.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
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
    if (part?.links.view) this.load(part.links.view);
    else this.wait(part?.reason ?? "There is no picture of this image.");
  }

  load(url) {
    this.painter = new Worker("/static/view/painter.js", { type: "module" });
    this.painter.onmessage = ({ data }) => this.told(data);
    this.painter.onerror = () => this.wait("This browser cannot show the picture. Download the result instead.");
    this.painter.postMessage({ open: new URL(url, location.href).href });
  }

  end() {
    clearInterval(this.playing);
    this.playing = 0;
    this.painter?.terminate();
    this.painter = null;
    this.manifest = null;
    this.stage.close();
    delete this.dialog.dataset.ready;
  }

  told(data) {
    if (data.manifest) this.show(data.manifest);
    else if (data.table) this.know(data.table);
    else if (data.tile) {
      this.stage.show(data);
      this.wait("");
      if (this.stage.pending?.size === 0) this.dialog.dataset.ready = "yes";
    } else this.wait("The picture cannot be loaded just now. Close and open it again, or download the result.");
  }

  show(manifest) {
    this.manifest = manifest;
    this.cells = new Cells(this.painter);
    Object.assign(this, { plane: 0, layer: 0, picked: 0 });
    this.channels.show(manifest);
    this.stage.open(this.painter, manifest);
    this.marks.open(this.stage.world, manifest.width, manifest.height);
    const name = PLANES[manifest.axis] ?? "Image";
    find("plane-bar").hidden = manifest.planes < 2;
    find("plane-name").textContent = name;
    Object.assign(find("plane"), { max: String(manifest.planes - 1), value: "0" });
    find("play").hidden = manifest.axis !== "T" && manifest.axis !== "Z";
    find("layer").replaceChildren(...manifest.layers.map((layer, n) => make("option", { value: String(n) }, layer)));
    find("layer-field").hidden = manifest.layers.length < 2;
    find("cells-field").hidden = !Object.keys(manifest.labels).length;
    find("spots-field").hidden = !Object.keys(manifest.points).length;
    find("tails-field").hidden = !manifest.tracks;
    this.adjust();
    this.stage.set({ looks: this.channels.looks });
    this.go(0);
  }

  // Shows a plane, and what is known of it.
  go(plane) {
    const { manifest } = this;
    if (!manifest) return;
    this.plane = Math.min(manifest.planes - 1, Math.max(0, plane));
    find("plane").value = String(this.plane);
    find("plane-out").textContent = `${this.plane + 1} of ${manifest.planes}`;
    this.stage.set({ plane: this.plane, layer: this.layer });
    const labels = manifest.labels[`${this.plane}/${this.layer}`], points = manifest.points[this.plane];
    find("count").textContent = (labels ?? points)?.count.toLocaleString() ?? "–";
    find("counted").textContent = labels ? manifest.layers[this.layer] ?? "cells" : "spots";
    find("spots-out").textContent = points?.count.toLocaleString() ?? "0";
    const tail = manifest.tracks ? Number(find("tail").value) : 0;
    for (let at = this.plane; at >= Math.max(0, this.plane - tail); at -= 1) this.cells.ask(at, this.layer);
    this.draw();
  }

  know(table) {
    this.cells.take(table);
    this.draw();
    this.dialog.dataset.known = `${this.plane}`;
  }

  draw() {
    const points = this.cells.points(this.plane, this.layer);
    this.marks.showSpots(points ?? { x: [] }, this.manifest.points[this.plane]?.assigned);
    if (this.manifest.tracks) this.marks.showTails(this.cells.tails(this.plane, this.layer, Number(find("tail").value)));
    this.light(this.picked);
  }

  adjust() {
    const on = (id) => find(id).checked;
    for (const [id, unit] of [["opacity", " %"], ["tail", " frames"]]) find(`${id}-out`).textContent = `${find(id).value}${unit}`;
    const { layers } = this.stage;
    if (!layers) return;
    layers.fill.style.opacity = String(Number(find("opacity").value) / 100);
    layers.rim.hidden = layers.edge.hidden = !on("outlines");
    this.marks.spots.toggleAttribute("hidden", !on("spots"));
    this.marks.tails.toggleAttribute("hidden", !on("tails"));
  }

  // -- cells --

  pointed(x, y) {
    this.light(this.stage.cellAt(x, y));
  }

  light(id) {
    this.picked = id;
    const cell = id ? this.cells.get(this.plane, this.layer, id) : null;
    this.stage.light(id, cell);
    find("under").replaceChildren(...(id ? this.about(id, cell) : ["Point at a cell to see its id and area."]));
  }

  about(id, cell) {
    const track = this.cells.tracks.get(id);
    const size = this.manifest.pixel_size_um;
    const told = [make("strong", {}, `${track ? "Track" : "Cell"} ${id}`)];
    if (cell) told.push(`: ${cell.area.toLocaleString()} px`);
    if (cell && size) told.push(` = ${(cell.area * size * size).toFixed(1)} µm²`);
    if (track) told.push(make("br"), `Frames ${track.first + 1} to ${track.last + 1}${track.parent ? `, daughter of ${track.parent}` : ""}`);
    return told;
  }

  next(step) {
    const ids = this.cells?.ids(this.plane, this.layer) ?? [];
    if (!ids.length) return;
    const at = ids.indexOf(this.picked);
    const id = ids[(Math.max(at, step > 0 ? -1 : 0) + step + ids.length) % ids.length];
    const cell = this.cells.get(this.plane, this.layer, id);
    this.stage.centre(cell.x, cell.y);
    this.light(id);
    say(find("under").textContent);
  }

  // -- tools --

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
    const button = find("play");
    if (this.playing) { clearInterval(this.playing); this.playing = 0; } else {
      // The next plane only when this one is there.
      this.playing = setInterval(() => {
        if (this.manifest && !this.stage.pending?.size) this.go((this.plane + 1) % this.manifest.planes);
      }, PLAY_MS);
    }
    button.textContent = this.playing ? "❚❚" : "▶";
    button.setAttribute("aria-label", this.playing ? "Stop" : "Play");
  }

  listen() {
    for (const id of ["opacity", "outlines", "spots", "tails", "tail"]) find(id).addEventListener("input", () => this.adjust());
    find("tail").addEventListener("change", () => this.go(this.plane));
    find("zoom-in").addEventListener("click", () => this.stage.zoom(1.5));
    find("zoom-out").addEventListener("click", () => this.stage.zoom(1 / 1.5));
    find("fit").addEventListener("click", () => this.stage.fit());
    find("plane").addEventListener("input", (event) => this.go(Number(event.target.value)));
    find("play").addEventListener("click", () => this.play());
    find("layer").addEventListener("change", (event) => { this.layer = Number(event.target.value); this.picked = 0; this.go(this.plane); });
    find("item").addEventListener("change", (event) => this.showItem(Number(event.target.value)));
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
      n: () => this.next(1), p: () => this.next(-1), ",": () => this.go(this.plane - 1), ".": () => this.go(this.plane + 1),
      o: () => find("outlines").click(),
    };
    if (!this.manifest || !acts[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    acts[event.key]();
  }
}
