// The painted tiles: asked for in order, painted one by one, the last ones kept.

import { paint, prepared } from "./paint.js";

const AT_ONCE = 6;
const LEAST_KEPT = 64;

export class Tiles {
  constructor(file, grid, { painted, failed }) {
    Object.assign(this, { file, grid, painted, failed });
    this.kept = new Map();
    this.shown = new Map();
    this.wanted = [];
    this.busy = new Set();
    this.turn = Promise.resolve();
  }

  // Changes how tiles are painted from now on.
  dress(look) {
    this.look = look;
    this.style = prepared(look);
    this.dressed = `${look.opacity}/${look.outlines}/${look.looks.map((one) => (one.on ? Object.values(one).join(",") : "")).join(";")}`;
  }

  order(plane, layer, level, [column, row]) {
    const place = `${level}/${column}/${row}`;
    return { place, level, column, row, plane, layer, sign: `${place}|${plane}|${layer}|${this.dressed}` };
  }

  // The tile of an order, if it is there.
  get(order) {
    const tile = this.kept.get(order.sign);
    if (!tile) return null;
    this.kept.delete(order.sign);
    this.kept.set(order.sign, tile);
    this.shown.set(order.place, tile);
    return tile;
  }

  // Wants these, in this order, and nothing else.
  want(orders) {
    this.most = Math.max(LEAST_KEPT, 3 * orders.length);
    this.wanted = orders.filter((order) => !this.kept.has(order.sign) && !this.busy.has(order.sign));
    this.pump();
  }

  pump() {
    while (this.busy.size < AT_ONCE && this.wanted.length) {
      const order = this.wanted.shift();
      this.busy.add(order.sign);
      this.make(order).catch((error) => this.failed(error)).finally(() => { this.busy.delete(order.sign); this.pump(); });
    }
  }

  async make(order) {
    const { manifest } = this.file;
    const { level, column, row, stride, region } = this.grid.source(order.level, order.column, order.row);
    const read = (part, type) => this.file.tile(part.levels, level, column, row, type);
    const channels = this.look.looks.filter((look) => look.on).map((look) => look.channel);
    const labels = manifest.labels[`${order.plane}/${order.layer}`];
    const [cells, ...planes] = await Promise.all([
      labels ? read(labels, labels.type) : null, ...channels.map((channel) => read(manifest.images[`${order.plane}/${channel}`], "u1"))]);
    // One after the other: between two of them the picture can be drawn.
    const before = this.turn;
    const work = before.then(async () => {
      if (!order.sign.endsWith(`|${this.dressed}`)) return;  // it is wanted otherwise by now
      const bitmap = await createImageBitmap(paint(region, stride, planes.map((plane) => plane.pixels), cells?.pixels, this.style));
      this.keep(order, { order, bitmap, ids: cells?.pixels, stride });
      this.painted();
    });
    this.turn = work.catch(() => {});
    await work;
  }

  keep(order, tile) {
    this.kept.set(order.sign, tile);
    for (const [sign, old] of this.kept) {
      if (this.kept.size <= this.most) break;
      this.kept.delete(sign);
      if (this.shown.get(old.order.place) === old) this.shown.delete(old.order.place);
      old.bitmap.close();
    }
  }

  // The number of the cell at a point of the image; 0 for none, and where that is not known yet.
  cellAt(x, y, plane, layer, level) {
    const { grid } = this;
    if (x < 0 || y < 0 || x >= grid.width || y >= grid.height) return 0;
    const side = grid.side * 2 ** level;
    const place = [Math.floor(x / side), Math.floor(y / side)];
    const tile = this.kept.get(this.order(plane, layer, level, place).sign);
    if (!tile?.ids) return 0;
    const real = Math.max(0, level), scale = 2 ** real;
    const { column, row } = grid.source(level, ...place);
    return tile.ids[(Math.floor(y / scale) - row * grid.side) * tile.stride + Math.floor(x / scale) - column * grid.side];
  }
}
