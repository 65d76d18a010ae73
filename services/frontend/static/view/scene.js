// The picture as it is seen now: painted tiles, and the marks over them, drawn on one canvas.

import { Cells } from "./cells.js";
import { picture, table } from "./export.js";
import { Grid } from "./grid.js";
import { drawSpots, drawTails, lightOf } from "./marks.js";
import { Tiles } from "./tiles.js";

const GROUND = "#060b0a";
const CALM_MS = 15;
const soon = self.requestAnimationFrame?.bind(self) ?? ((act) => setTimeout(act, 16));

export class Scene {
  // canvas: one of the page, or none: then each frame is handed out.
  constructor(given, file, tell) {
    const canvas = given ?? new OffscreenCanvas(1, 1);
    Object.assign(this, { canvas, tell, handsOut: !given, manifest: file.manifest, drawn: 0, picked: 0 });
    this.pen = canvas.getContext("2d", { alpha: false });
    const failed = (error) => tell({ failed: error.message });
    this.grid = new Grid(file.manifest);
    this.tiles = new Tiles(file, this.grid, { painted: () => { this.light = null; this.change(); }, failed });
    this.cells = new Cells(file, { read: (plane) => this.know(plane), failed });
  }

  resize({ width, height, ratio }) {
    Object.assign(this.canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    this.ratio = ratio;
    this.change();
  }

  // Looks at a part: x, y of the image's corner on the stage, and pixels of the stage for one of the image.
  move(view) {
    this.view = view;
    this.change();
  }

  // Changes what is shown: plane, layer, looks, opacity, outlines, spots, tail (0: none), ahead.
  dress(look) {
    this.look = look;
    this.tiles.dress(look);
    this.light = this.tails = null;
    for (let at = look.plane; at >= Math.max(0, look.plane - look.tail); at -= 1) this.cells.ask(at, look.layer);
    this.tellCell();
    this.change();
  }

  know(plane) {
    this.tails = null;
    if (plane === this.look.plane) this.tellCell();
    this.change();
  }

  // -- cells --

  pointAt({ x, y }) {
    if (!this.look) return;
    this.pick(this.tiles.cellAt(x, y, this.look.plane, this.look.layer, this.level()));
  }

  // Goes to the next cell, or the one before.
  step(by) {
    const ids = this.cells.ids(this.look.plane, this.look.layer);
    if (!ids.length) return;
    const at = ids.indexOf(this.picked);
    this.pick(ids[(Math.max(at, by > 0 ? -1 : 0) + by + ids.length) % ids.length], true);
  }

  pick(id, stepped = false) {
    if (id === this.picked && !stepped) return;
    this.picked = id;
    this.light = null;
    this.tellCell(stepped);
    this.change();
  }

  tellCell(stepped = false) {
    const id = this.picked;
    const cell = id ? this.cells.get(this.look.plane, this.look.layer, id) : null;
    this.tell({ cell: { id, stepped, ...cell, track: this.cells.tracks.get(id) } });
  }

  // Hands out a file of what is shown: its "picture", or a "table" of its cells.
  async save(kind) {
    const columns = this.cells.columns(this.look.plane, this.look.layer);
    if (kind === "table" && !columns) return;
    if (kind === "picture") this.compose();
    const blob = kind === "table" ? table(columns, this.manifest.pixel_size_um) : await picture(this.canvas);
    this.tell({ file: { blob, kind } });
  }

  // -- drawing --

  change() {
    this.due ||= soon(() => { this.due = 0; this.draw(); });
  }

  // The window in pixels of the screen.
  window() {
    const { ratio, view, canvas } = this;
    return { x: Math.round(view.x * ratio), y: Math.round(view.y * ratio), zoom: view.zoom * ratio, width: canvas.width, height: canvas.height, ratio };
  }

  level() {
    return this.grid.level(this.view.zoom * this.ratio);
  }

  draw() {
    if (!this.view || !this.look || !this.ratio) return;
    this.compose();
    if (this.handsOut) this.tell({ frame: this.canvas.transferToImageBitmap() });
  }

  compose() {
    const { pen, grid, tiles, look } = this;
    const at = this.window(), level = this.level();
    const orders = grid.seen(level, at).map((place) => tiles.order(look.plane, look.layer, level, place));
    const base = tiles.order(look.plane, look.layer, grid.last, [0, 0]);
    const found = orders.map((order) => tiles.get(order));
    const whole = found.every(Boolean);
    tiles.get(base);
    pen.fillStyle = GROUND;
    pen.fillRect(0, 0, at.width, at.height);
    if (!whole) for (const tile of this.others(level)) this.put(tile, at);
    for (const [n, tile] of found.entries()) {
      const stale = tile ?? tiles.shown.get(orders[n].place);
      if (stale) this.put(stale, at);
    }
    this.mark(at, level);
    this.drawn += 1;
    const wanted = level === grid.last ? orders : [base, ...orders];
    tiles.want([...wanted, ...this.ahead(level, at)]);
    clearTimeout(this.calm);
    if (whole) this.calm = setTimeout(() => this.tell({ settled: { plane: look.plane, drawn: this.drawn, view: this.view } }), CALM_MS);
  }

  // Tiles of other levels that are of what is shown, the coarsest first.
  others(level) {
    const { plane, layer } = this.look;
    return [...this.tiles.shown.values()].filter(({ order }) => order.level !== level && order.plane === plane && order.layer === layer)
      .sort((a, b) => b.order.level - a.order.level);
  }

  // What will be looked at next: the planes that follow.
  ahead(level, at) {
    const { plane, layer, ahead } = this.look;
    const places = this.grid.seen(level, at);
    return Array.from({ length: Math.min(ahead, this.manifest.planes - 1) }, (_, n) => (plane + 1 + n) % this.manifest.planes)
      .flatMap((next) => places.map((place) => this.tiles.order(next, layer, level, place)));
  }

  put({ order, bitmap }, { x, y, zoom, width, height }) {
    const { grid } = this, scale = 2 ** order.level * zoom;
    const left = Math.round(x + order.column * grid.side * scale), top = Math.round(y + order.row * grid.side * scale);
    // The reduced levels are rounded up: they may reach beyond the image.
    const right = Math.round(x + (order.column * grid.side + bitmap.width) * scale), bottom = Math.round(y + (order.row * grid.side + bitmap.height) * scale);
    if (left >= width || top >= height || right <= 0 || bottom <= 0) return;
    this.pen.imageSmoothingEnabled = scale < 1 || order.level > 0;
    this.pen.drawImage(bitmap, left, top, right - left, bottom - top);
  }

  mark(at, level) {
    const { pen, look, cells, picked } = this;
    const box = picked && !this.light ? cells.get(look.plane, look.layer, picked) : null;
    if (box) this.light = lightOf(picked, box, level, (x, y) => this.tiles.cellAt(x, y, look.plane, look.layer, level));
    if (picked && this.light) {
      const { canvas, left, top, width, height } = this.light;
      pen.imageSmoothingEnabled = false;
      pen.drawImage(canvas, at.x + left * at.zoom, at.y + top * at.zoom, width * at.zoom, height * at.zoom);
    }
    const points = look.spots && cells.points(look.plane, look.layer);
    if (points) drawSpots(pen, at, points, this.manifest.points[look.plane].assigned);
    if (look.tail) drawTails(pen, at, this.tails ??= cells.tails(look.plane, look.layer, look.tail));
  }
}
