// The picture: tiles under a window that moves. Tiles are painted once by the worker; moving and zooming only shift
// what is there, and ask for what has come into sight.

import { make } from "../dom.js";

const ZOOMS = [0.005, 64];
const CLOSE = 3;
const KEPT = 160;

export class Stage {
  constructor(element, { moved, under }) {
    this.element = element;
    this.moved = moved;
    this.under = under;
    this.pan = make("div", { class: "pan" });
    this.world = make("div", { class: "world" });
    this.pan.append(this.world);
    element.prepend(this.pan);
    this.view = { x: 0, y: 0, zoom: 1 };
    this.tiles = new Map();
    this.pointers = new Map();
    this.listen();
  }

  // Shows a file that `painter` (a worker) has opened.
  open(painter, manifest) {
    this.close();
    this.painter = painter;
    Object.assign(this, { width: manifest.width, height: manifest.height, side: manifest.tile, labels: manifest.labels });
    this.levels = Object.values(manifest.images)[0].levels;
    this.layers = Object.fromEntries(["image", "fill", "rim", "edge"].map((name) => [name, make("div", { class: name })]));
    this.pickCanvas = make("canvas", { class: "pick", hidden: true });
    this.world.replaceChildren(...Object.values(this.layers), this.pickCanvas);
    Object.assign(this.world.style, { width: `${this.width}px`, height: `${this.height}px` });
    this.plane = 0;
    this.layer = 0;
    this.looks = [];
    this.fit();
  }

  close() {
    this.tiles.clear();
    this.world.replaceChildren();
    this.painter = this.sight = this.zoomed = this.pending = null;
  }

  set({ plane = this.plane, layer = this.layer, looks = this.looks }) {
    Object.assign(this, { plane, layer, looks });
    this.want();
  }

  // -- moving --

  fit() {
    const box = this.box();
    const zoom = Math.min(box.width / this.width, box.height / this.height) * 0.98;
    this.move({ zoom, x: (box.width - this.width * zoom) / 2, y: (box.height - this.height * zoom) / 2 });
  }

  move(view) {
    this.view = view;
    if (this.frame || !this.painter) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (!this.painter) return;
      const { x, y, zoom } = this.view;
      this.pan.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
      if (this.zoomed !== zoom) {
        this.zoomed = zoom;
        this.world.style.transform = `scale(${zoom})`;
        this.world.style.setProperty("--pixel", 1 / zoom);
        this.world.classList.toggle("near", zoom >= 1);
        this.world.classList.toggle("close", zoom >= CLOSE);
        this.moved(this.view);
      }
      this.want();
    });
  }

  zoom(factor, at) {
    const box = this.box();
    const { x, y } = at ?? { x: box.width / 2, y: box.height / 2 };
    const zoom = Math.min(ZOOMS[1], Math.max(ZOOMS[0], this.view.zoom * factor));
    const real = zoom / this.view.zoom;
    this.move({ zoom, x: x - (x - this.view.x) * real, y: y - (y - this.view.y) * real });
  }

  // Brings a point of the image to the middle.
  centre(x, y) {
    const box = this.box();
    const { zoom } = this.view;
    this.move({ zoom, x: box.width / 2 - x * zoom, y: box.height / 2 - y * zoom });
  }

  box() {
    return this.element.getBoundingClientRect();
  }

  // -- tiles --

  level() {
    const reduced = Math.log2(1 / (this.view.zoom * devicePixelRatio)) + 0.3;
    return Math.max(0, Math.min(this.levels.length - 1, Math.floor(reduced)));
  }

  // Asks for what is in sight and not there yet: the smallest level first, then from the middle outwards.
  want() {
    if (!this.painter || !this.looks.length) return;
    const level = this.level(), last = this.levels.length - 1;
    const close = this.view.zoom >= CLOSE;
    const key = `${this.plane}|${this.layer}|${close}|${this.looksKey()}`;
    const seen = this.inSight(level);
    const sight = `${level}:${seen.map(([c, r]) => `${c},${r}`).join(" ")}|${key}`;
    if (sight === this.sight) return;
    this.sight = sight;
    this.inView = new Set(seen.map(([column, row]) => `${level}/${column}/${row}`));
    const orders = [];
    if (level !== last) orders.push(this.order("image", last, 0, 0));
    for (const [column, row] of seen) {
      orders.push(this.order("image", level, column, row));
      if (this.labels[`${this.plane}/${this.layer}`]) orders.push(this.order("cells", level, column, row, close));
    }
    const missing = orders.filter((order) => this.tiles.get(order.key)?.sign !== order.sign);
    this.pending = new Set(missing.map((order) => order.sign));
    if (missing.length) this.painter.postMessage({ want: missing });
    else this.settle();
  }

  order(kind, level, column, row, close = false) {
    const about = kind === "image" ? this.looksKey() : `${this.layer}/${close}`;
    const key = `${kind}/${level}/${column}/${row}`;
    return {
      kind, key, level, column, row, close, plane: this.plane, layer: this.layer, sign: `${key}/${this.plane}/${about}`,
      looks: kind === "image" ? this.looks : null,
    };
  }

  looksKey() {
    return this.looks.map((look) => (look.on ? Object.values(look).join(",") : "")).join(";");
  }

  inSight(level) {
    const box = this.box(), side = this.side * 2 ** level;
    const { x, y, zoom } = this.view;
    const { width, height } = this.levels[level];
    const range = (from, size, all) => [
      Math.max(0, Math.floor(from / zoom / side)), Math.min(Math.ceil(all / this.side), Math.ceil((from + size) / zoom / side)),
    ];
    const [left, right] = range(-x, box.width, width), [top, bottom] = range(-y, box.height, height);
    const found = [];
    for (let row = top; row < bottom; row += 1) for (let column = left; column < right; column += 1) found.push([column, row]);
    const middle = [(left + right - 1) / 2, (top + bottom - 1) / 2];
    const far = ([c, r]) => Math.hypot(c - middle[0], r - middle[1]);
    return found.sort((a, b) => far(a) - far(b));
  }

  // Takes what the worker painted.
  show(answer) {
    const order = answer.tile;
    const fresh = order.plane === this.plane && (order.kind === "image" || order.layer === this.layer);
    if (this.painter && fresh) {
      const tile = this.tiles.get(order.key) ?? this.place(order, answer);
      tile.sign = order.sign;
      if (order.kind === "image") tile.elements[0].getContext("bitmaprenderer").transferFromImageBitmap(answer.bitmap);
      else this.showCells(tile, answer);
    }
    this.pending?.delete(order.sign);
    if (!this.pending?.size) this.settle();
  }

  showCells(tile, answer) {
    tile.ids = answer.ids;
    tile.elements[0].getContext("bitmaprenderer").transferFromImageBitmap(answer.fill);
    tile.elements[1].getContext("bitmaprenderer").transferFromImageBitmap(answer.rim);
    tile.elements[2].firstChild.setAttribute("d", answer.path);
  }

  place(order, { width, height }) {
    const scale = 2 ** order.level;
    const style = {
      left: `${order.column * this.side * scale}px`, top: `${order.row * this.side * scale}px`,
      width: `${width * scale}px`, height: `${height * scale}px`, zIndex: String(this.levels.length - order.level),
    };
    const names = order.kind === "image" ? ["image"] : ["fill", "rim", "edge"];
    const elements = names.map((name) => {
      const element = name === "edge" ? drawing(width, height) : make("canvas", { width, height });
      Object.assign(element.style, style);
      this.layers[name].append(element);
      return element;
    });
    const tile = { elements, order, width, height, ids: null };
    this.tiles.set(order.key, tile);
    return tile;
  }

  // Once all in sight is there, what lies over or under it goes.
  settle() {
    const level = this.level(), last = this.levels.length - 1;
    let spare = this.tiles.size - KEPT;
    for (const [key, { order, elements }] of this.tiles) {
      const here = order.level === level || (order.kind === "image" && order.level === last);
      const seen = this.inView?.has(`${order.level}/${order.column}/${order.row}`);
      const outdated = order.kind === "cells" && !this.labels[`${this.plane}/${this.layer}`];
      if (here && !outdated && (seen || order.level === last || spare <= 0)) continue;
      spare -= 1;
      for (const element of elements) element.remove();
      this.tiles.delete(key);
    }
    this.element.dataset.settled = `${this.plane}`;
  }

  // -- cells --

  // The number of the cell at a point of the image, 0 for none.
  cellAt(x, y) {
    const level = this.level(), scale = 2 ** level;
    const column = Math.floor(x / scale / this.side), row = Math.floor(y / scale / this.side);
    const tile = this.tiles.get(`cells/${level}/${column}/${row}`);
    if (!tile?.ids || x < 0 || y < 0 || x >= this.width || y >= this.height) return 0;
    return tile.ids[(Math.floor(y / scale) - row * this.side) * tile.width + Math.floor(x / scale) - column * this.side];
  }

  // Lights up a cell within its box; null for none.
  light(id, box) {
    const canvas = this.pickCanvas;
    canvas.hidden = !box;
    if (!box) return;
    const scale = 2 ** this.level();
    const left = Math.floor(box.left / scale), top = Math.floor(box.top / scale);
    const width = Math.ceil(box.right / scale) - left, height = Math.ceil(box.bottom / scale) - top;
    Object.assign(canvas, { width, height });
    Object.assign(canvas.style, { left: `${left * scale}px`, top: `${top * scale}px`, width: `${width * scale}px`, height: `${height * scale}px` });
    const pen = canvas.getContext("2d");
    const image = pen.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let y = 0, i = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1, i += 1) if (this.cellAt((left + x) * scale, (top + y) * scale) === id) pixels[i] = 0xa0ffffff;
    }
    pen.putImageData(image, 0, 0);
  }

  // -- hands --

  listen() {
    const { element } = this;
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = this.box();
      this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), { x: event.clientX - box.left, y: event.clientY - box.top });
    }, { passive: false });
    element.addEventListener("pointerdown", (event) => {
      if (event.target.closest("button")) return;
      element.setPointerCapture?.(event.pointerId);
      this.pointers.set(event.pointerId, event);
    });
    element.addEventListener("pointermove", (event) => this.dragged(event));
    element.addEventListener("dblclick", (event) => {
      const box = this.box();
      if (!event.target.closest("button")) this.zoom(2, { x: event.clientX - box.left, y: event.clientY - box.top });
    });
    for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, (event) => this.lifted(event));
    new ResizeObserver(() => { if (this.painter) this.fit(); }).observe(element);
  }

  dragged(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) { this.pointAt(event); return; }
    if (this.pointers.size === 2) {
      const other = [...this.pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
      const distance = (a, b) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
      const box = this.box();
      const at = { x: (event.clientX + other.clientX) / 2 - box.left, y: (event.clientY + other.clientY) / 2 - box.top };
      this.zoom(distance(event, other) / Math.max(1, distance(before, other)), at);
    } else {
      this.move({ ...this.view, x: this.view.x + event.clientX - before.clientX, y: this.view.y + event.clientY - before.clientY });
    }
    this.pointers.set(event.pointerId, event);
  }

  // A finger cannot point without touching: what it taps is what it points at.
  lifted(event) {
    this.pointers.delete(event.pointerId);
    if (event.pointerType === "touch") this.pointAt(event);
  }

  pointAt(event) {
    if (!this.painter) return;
    const box = this.box();
    const { x, y, zoom } = this.view;
    this.under((event.clientX - box.left - x) / zoom, (event.clientY - box.top - y) / zoom);
  }
}

export function drawing(width, height, kind = "path") {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.append(document.createElementNS(space, kind));
  return svg;
}
