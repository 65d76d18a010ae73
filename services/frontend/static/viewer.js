// The viewer: the picture with its cells drawn over it. Layers are drawn once; moving and zooming only shift them.

import { find, make } from "./dom.js";

const ZOOMS = [0.02, 64];

export class Viewer {
  constructor() {
    this.dialog = find("viewer");
    this.stage = find("stage");
    this.canvases = find("canvases");
    this.view = { x: 0, y: 0, zoom: 1 };
    this.pointers = new Map();
    this.listen();
  }

  async open(job) {
    this.job = job;
    this.reset(job);
    this.dialog.showModal();
    this.stage.focus();
    try {
      const [image, labels] = await Promise.all([picture(job.links.preview), job.links.labels ? picture(job.links.labels) : null]);
      if (this.job !== job) return;
      this.show(image, labels);
    } catch {
      find("viewer-wait").textContent = "The picture cannot be loaded just now. Close and open it again, or download the result.";
    }
  }

  reset(job) {
    find("viewer-title").textContent = job.name;
    find("viewer-wait").hidden = false;
    find("viewer-wait").textContent = "Loading the picture…";
    find("count").textContent = "–";
    find("viewer-download").href = job.links.result ?? "";
    const send = find("viewer-send");
    send.hidden = !(this.labelViewer && job.links.download);
    if (!send.hidden) send.href = this.labelViewer.replace("{url}", encodeURIComponent(job.links.download));
    this.canvases.replaceChildren();
    this.ids = null;
    this.facts(job);
  }

  facts(job) {
    const rows = [["Analysis", job.type ?? job.id.split(":")[0]], ["Model", [job.model, job.model_version].filter(Boolean).join(" ")],
      ...Object.entries(job.options ?? {}).map(([name, value]) => [name, String(value)]),
      ...Object.entries(job.seconds ?? {}).map(([stage, value]) => [`${stage} time`, `${[value].flat().map((s) => s.toFixed(2)).join(", ")} s`]),
      ["Job", job.id]];
    find("facts").replaceChildren(...rows.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  }

  show(image, labels) {
    this.width = image.width;
    this.height = image.height;
    this.imageCanvas = layer(image.width, image.height);
    this.imageCanvas.getContext("2d").drawImage(image, 0, 0);
    this.fillCanvas = layer(image.width, image.height);
    this.edgeCanvas = layer(image.width, image.height);
    this.pickCanvas = layer(image.width, image.height);
    if (labels) this.readLabels(labels);
    this.canvases.replaceChildren(this.imageCanvas, this.fillCanvas, this.edgeCanvas, this.pickCanvas);
    find("viewer-wait").hidden = true;
    this.adjust();
    this.fit();
    this.dialog.dataset.ready = "yes";
  }

  // Labels come as colours: id = red + 256 green + 65536 blue.
  readLabels(labels) {
    const { width, height } = this;
    const canvas = layer(width, height);
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.imageSmoothingEnabled = false;
    pen.drawImage(labels, 0, 0, width, height);
    const raw = new Uint32Array(pen.getImageData(0, 0, width, height).data.buffer);
    const ids = (this.ids = new Uint32Array(raw.length));
    this.areas = new Map();
    this.boxes = new Map();
    for (let i = 0; i < raw.length; i += 1) {
      const id = raw[i] & 0xffffff;
      if (!id) continue;
      ids[i] = id;
      this.areas.set(id, (this.areas.get(id) ?? 0) + 1);
      const box = this.boxes.get(id);
      if (box) box.last = i;
      else this.boxes.set(id, { first: i, last: i });
    }
    find("count").textContent = this.areas.size.toLocaleString();
    this.order = [...this.areas.keys()].sort((a, b) => a - b);
    this.picked = 0;
    this.paint();
  }

  paint() {
    const { width, height, ids } = this;
    const fillPen = this.fillCanvas.getContext("2d"), edgePen = this.edgeCanvas.getContext("2d");
    const fill = fillPen.createImageData(width, height), edge = edgePen.createImageData(width, height);
    const fills = new Uint32Array(fill.data.buffer), edges = new Uint32Array(edge.data.buffer);
    for (let y = 0, i = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1, i += 1) {
        const id = ids[i];
        if (!id) continue;
        fills[i] = colour(id);
        const rim = (x + 1 < width && ids[i + 1] !== id) || (x && ids[i - 1] !== id)
          || (y + 1 < height && ids[i + width] !== id) || (y && ids[i - width] !== id);
        if (rim) edges[i] = 0xff5ef0ff;
      }
    }
    fillPen.putImageData(fill, 0, 0);
    edgePen.putImageData(edge, 0, 0);
  }

  adjust() {
    const value = (id) => Number(find(id).value);
    for (const id of ["opacity", "brightness", "contrast"]) find(`${id}-out`).textContent = `${value(id)} %`;
    if (!this.imageCanvas) return;
    this.imageCanvas.style.filter = `brightness(${value("brightness") / 100}) contrast(${value("contrast") / 100})`;
    this.fillCanvas.style.opacity = String(value("opacity") / 100);
    this.edgeCanvas.style.visibility = find("outlines").checked ? "visible" : "hidden";
  }

  fit() {
    const box = this.stage.getBoundingClientRect();
    const zoom = Math.min(box.width / this.width, box.height / this.height) * 0.98;
    this.move({ zoom, x: (box.width - this.width * zoom) / 2, y: (box.height - this.height * zoom) / 2 });
  }

  move(view) {
    this.view = view;
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const { x, y, zoom } = this.view;
      this.canvases.style.transform = `translate(${x}px, ${y}px) scale(${zoom})`;
    });
  }

  zoom(factor, at) {
    const box = this.stage.getBoundingClientRect();
    const { x, y } = at ?? { x: box.width / 2, y: box.height / 2 };
    const zoom = Math.min(ZOOMS[1], Math.max(ZOOMS[0], this.view.zoom * factor));
    const real = zoom / this.view.zoom;
    this.move({ zoom, x: x - (x - this.view.x) * real, y: y - (y - this.view.y) * real });
  }

  under(event) {
    if (!this.ids) return;
    const box = this.stage.getBoundingClientRect();
    const x = Math.floor((event.clientX - box.left - this.view.x) / this.view.zoom);
    const y = Math.floor((event.clientY - box.top - this.view.y) / this.view.zoom);
    const inside = x >= 0 && y >= 0 && x < this.width && y < this.height;
    this.pick(inside ? this.ids[y * this.width + x] : 0);
  }

  pick(id) {
    if (id === this.picked) return;
    this.picked = id;
    find("under").textContent = id ? `Cell ${id}: ${this.areas.get(id).toLocaleString()} px of the picture` : "Point at a cell to see its id and area.";
    const pen = this.pickCanvas.getContext("2d");
    pen.clearRect(0, 0, this.width, this.height);
    if (!id) return;
    const { first, last } = this.boxes.get(id);
    const top = Math.floor(first / this.width), rows = Math.floor(last / this.width) - top + 1;
    const image = pen.createImageData(this.width, rows);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < pixels.length; i += 1) if (this.ids[top * this.width + i] === id) pixels[i] = 0x90ffffff;
    pen.putImageData(image, 0, top);
  }

  next(step) {
    if (!this.order?.length) return;
    const at = this.order.indexOf(this.picked);
    const id = this.order[(at + step + this.order.length) % this.order.length];
    this.pick(id);
    const { first, last } = this.boxes.get(id);
    const box = this.stage.getBoundingClientRect();
    const middle = Math.floor((Math.floor(first / this.width) + Math.floor(last / this.width)) / 2);
    const { zoom } = this.view;
    this.move({ zoom, x: box.width / 2 - (first % this.width) * zoom, y: box.height / 2 - middle * zoom });
  }

  listen() {
    const { stage } = this;
    for (const id of ["opacity", "brightness", "contrast", "outlines"]) find(id).addEventListener("input", () => this.adjust());
    find("zoom-in").addEventListener("click", () => this.zoom(1.5));
    find("zoom-out").addEventListener("click", () => this.zoom(1 / 1.5));
    find("fit").addEventListener("click", () => this.fit());
    find("viewer-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => { this.job = null; delete this.dialog.dataset.ready; this.canvases.replaceChildren(); });
    addEventListener("resize", () => this.dialog.open && this.width && this.fit());
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = stage.getBoundingClientRect();
      this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), { x: event.clientX - box.left, y: event.clientY - box.top });
    }, { passive: false });
    stage.addEventListener("pointerdown", (event) => { stage.setPointerCapture(event.pointerId); this.pointers.set(event.pointerId, event); });
    stage.addEventListener("pointermove", (event) => this.dragged(event));
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    stage.addEventListener("keydown", (event) => this.pressed(event));
  }

  dragged(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) { this.under(event); return; }
    if (this.pointers.size === 2) {
      const other = [...this.pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
      const distance = (a, b) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
      const box = this.stage.getBoundingClientRect();
      const at = { x: (event.clientX + other.clientX) / 2 - box.left, y: (event.clientY + other.clientY) / 2 - box.top };
      this.zoom(distance(event, other) / Math.max(1, distance(before, other)), at);
    } else {
      this.move({ ...this.view, x: this.view.x + event.clientX - before.clientX, y: this.view.y + event.clientY - before.clientY });
    }
    this.pointers.set(event.pointerId, event);
  }

  pressed(event) {
    const step = 60;
    const { x, y } = this.view;
    const acts = {
      ArrowLeft: () => this.move({ ...this.view, x: x + step }), ArrowRight: () => this.move({ ...this.view, x: x - step }),
      ArrowUp: () => this.move({ ...this.view, y: y + step }), ArrowDown: () => this.move({ ...this.view, y: y - step }),
      "+": () => this.zoom(1.25), "=": () => this.zoom(1.25), "-": () => this.zoom(0.8), 0: () => this.fit(),
      n: () => this.next(1), p: () => this.next(-1),
    };
    if (!acts[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    acts[event.key]();
  }
}

function layer(width, height) {
  return make("canvas", { width, height });
}

async function picture(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(String(response.status));
  // Labels are numbers: no colour space may bend them.
  return createImageBitmap(await response.blob(), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

// Distinct hues for neighbours with close ids: the golden angle.
function colour(id) {
  const hue = (id * 137.508) % 360;
  const channel = (n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (0.58 - 0.4 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return (255 << 24 | channel(4) << 16 | channel(8) << 8 | channel(0)) >>> 0;
}
