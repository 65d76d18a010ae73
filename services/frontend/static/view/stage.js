// The place of the picture, and the hands on it: what is dragged, turned and pinched here, a worker draws.

import { make } from "../dom.js";

const ZOOMS = [0.002, 64];
// Pixels of the screen for one of the page, at most: more is not seen, but must be drawn.
const FINEST = 2;

export class Stage {
  constructor(element, { moved, told }) {
    Object.assign(this, { element, moved, told });
    this.view = { x: 0, y: 0, zoom: 1 };
    this.pointers = new Map();
    this.listen();
  }

  // Opens a picture; `told` hears what the worker says of it.
  open(url) {
    this.close();
    if (!window.OffscreenCanvas || !window.DecompressionStream) throw new Error("This browser is too old for the viewer.");
    this.canvas = make("canvas", { class: "canvas" });
    this.element.prepend(this.canvas);
    // WebKit does not always show what is drawn on a canvas that was given away: there each frame is handed over, which
    // costs the page more time.
    const given = navigator.vendor.startsWith("Apple") ? [] : [this.canvas.transferControlToOffscreen()];
    const painter = new Worker("/static/view/painter.js", { type: "module" });
    painter.onmessage = ({ data }) => { if (this.painter === painter) this.hear(data); };
    painter.onerror = () => { if (this.painter === painter) this.told({ failed: "This browser cannot show the picture." }); };
    painter.postMessage({ open: { url: new URL(url, location.href).href, canvas: given[0] } }, given);
    this.painter = painter;
  }

  close() {
    this.painter?.terminate();
    this.canvas?.remove();
    this.painter = this.manifest = null;
    delete this.element.dataset.view;
  }

  hear(data) {
    if (data.frame) { this.show(data.frame); return; }
    if (data.manifest) {
      this.manifest = data.manifest;
      this.resize();
      this.fit();
    } else if (data.settled) {
      const { x, y, zoom } = data.settled.view;
      Object.assign(this.element.dataset, { view: `${x} ${y} ${zoom}`, drawn: data.settled.drawn });
    }
    this.told(data);
  }

  // Shows a frame that was handed over.
  show(frame) {
    const { canvas } = this, { width, height } = frame;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    canvas.getContext("bitmaprenderer").transferFromImageBitmap(frame);
  }

  // Changes what is shown.
  set(look) {
    this.painter?.postMessage({ look });
  }

  step(by) {
    this.painter?.postMessage({ step: by });
  }

  save(kind) {
    this.painter?.postMessage({ save: kind });
  }

  // -- moving --

  resize() {
    const { width, height } = this.box();
    if (width && height) this.painter.postMessage({ size: { width, height, ratio: Math.min(FINEST, devicePixelRatio) } });
  }

  fit() {
    if (!this.manifest) return;
    const box = this.box(), { width, height } = this.manifest;
    const zoom = Math.min(box.width / width, box.height / height) * 0.98;
    this.move({ zoom, x: (box.width - width * zoom) / 2, y: (box.height - height * zoom) / 2 });
    this.fitted = true;
  }

  move(view) {
    if (!this.manifest) return;
    this.fitted = false;
    const zoomed = this.view.zoom !== view.zoom;
    this.view = view;
    this.painter.postMessage({ view });
    if (zoomed) this.moved(view);
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
    const box = this.box(), { zoom } = this.view;
    this.move({ zoom, x: box.width / 2 - x * zoom, y: box.height / 2 - y * zoom });
  }

  box() {
    return this.element.getBoundingClientRect();
  }

  // -- hands --

  listen() {
    const { element } = this;
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), this.place(event));
    }, { passive: false });
    element.addEventListener("pointerdown", (event) => {
      if (event.target.closest("button")) return;
      element.setPointerCapture?.(event.pointerId);
      this.pointers.set(event.pointerId, event);
    });
    element.addEventListener("pointermove", (event) => this.dragged(event));
    element.addEventListener("dblclick", (event) => { if (!event.target.closest("button")) this.zoom(2, this.place(event)); });
    for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, (event) => this.lifted(event));
    // The plane's bar and a turned phone change the size; what was fitted stays so.
    new ResizeObserver(() => {
      if (!this.manifest) return;
      this.resize();
      if (this.fitted) this.fit();
    }).observe(element);
  }

  place(event) {
    const box = this.box();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  dragged(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) { this.pointAt(event); return; }
    if (this.pointers.size === 2) {
      const other = [...this.pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
      const distance = (a, b) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
      const one = this.place(event), two = this.place(other);
      this.zoom(distance(event, other) / Math.max(1, distance(before, other)), { x: (one.x + two.x) / 2, y: (one.y + two.y) / 2 });
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
    if (!this.manifest) return;
    const { x, y } = this.place(event), { view } = this;
    this.painter.postMessage({ under: { x: (x - view.x) / view.zoom, y: (y - view.y) / view.zoom } });
  }
}
