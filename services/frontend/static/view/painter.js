// A worker that fetches tiles and paints them, so that the page itself never computes a pixel.
// Takes {open}, {want: [orders]}, {table}; answers {manifest}, {tile}, {table}, {failed}.

import { TileFile } from "./tile-file.js";

const AT_ONCE = 6;
const OUTLINE = 0xff5ef0ff;
const PALETTE = Uint32Array.from({ length: 4096 }, (_, id) => colour(id));
let file = null;
let waiting = [];
const busy = new Set();

self.onmessage = ({ data }) => {
  if (data.open) open(data.open);
  else if (data.want) { waiting = data.want.filter((order) => !busy.has(order.sign)); pump(); }
  else if (data.table) table(data.table);
};

async function open(url) {
  try {
    file = await TileFile.open(url);
    self.postMessage({ manifest: file.manifest });
  } catch (error) {
    self.postMessage({ failed: error.message });
  }
}

function pump() {
  while (busy.size < AT_ONCE && waiting.length) {
    const order = waiting.shift();
    busy.add(order.sign);
    (order.kind === "image" ? image(order) : cells(order))
      .catch((error) => self.postMessage({ failed: error.message, order }))
      .finally(() => { busy.delete(order.sign); pump(); });
  }
}

async function image(order) {
  const looks = order.looks.filter((look) => look.on);
  const tiles = await Promise.all(looks.map((look) =>
    file.tile(file.manifest.images[`${order.plane}/${look.channel}`].levels, order.level, order.column, order.row, "u1")));
  const side = file.manifest.tile;
  const { width, height } = file.manifest.images[`${order.plane}/0`].levels[order.level];
  const data = new ImageData(Math.min(side, width - order.column * side), Math.min(side, height - order.row * side));
  mix(new Uint32Array(data.data.buffer), tiles.map((tile) => tile.pixels), looks.map(ramps));
  const bitmap = await createImageBitmap(data);
  self.postMessage({ tile: order, bitmap, width: data.width, height: data.height }, [bitmap]);
}

// The three colours of each of the 256 values of a channel.
function ramps({ low, high, gamma, tint }) {
  const parts = [0, 1, 2].map((n) => parseInt(tint.slice(1 + 2 * n, 3 + 2 * n), 16));
  const levels = Array.from({ length: 256 }, (_, value) => Math.min(1, Math.max(0, (value - low) / Math.max(1, high - low))) ** gamma);
  return parts.map((part) => Uint16Array.from(levels, (level) => Math.round(level * part)));
}

function mix(out, planes, ramp) {
  if (planes.length === 1) {
    const [red, green, blue] = ramp[0];
    const table = Uint32Array.from(red, (r, v) => 0xff000000 | blue[v] << 16 | green[v] << 8 | r);
    for (let i = 0; i < out.length; i += 1) out[i] = table[planes[0][i]];
    return;
  }
  for (let i = 0; i < out.length; i += 1) {
    let red = 0, green = 0, blue = 0;
    for (let c = 0; c < planes.length; c += 1) {
      const value = planes[c][i];
      red += ramp[c][0][value]; green += ramp[c][1][value]; blue += ramp[c][2][value];
    }
    out[i] = 0xff000000 | Math.min(255, blue) << 16 | Math.min(255, green) << 8 | Math.min(255, red);
  }
}

async function cells(order) {
  const labels = file.manifest.labels[`${order.plane}/${order.layer}`];
  const { width, height, pixels } = await file.tile(labels.levels, order.level, order.column, order.row, labels.type);
  const fill = new ImageData(width, height), rim = new ImageData(width, height);
  const fills = new Uint32Array(fill.data.buffer), rims = new Uint32Array(rim.data.buffer);
  for (let y = 0, i = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, i += 1) {
      const id = pixels[i];
      if (!id) continue;
      fills[i] = PALETTE[id & 4095];
      if ((x + 1 < width && pixels[i + 1] !== id) || (x && pixels[i - 1] !== id)
        || (y + 1 < height && pixels[i + width] !== id) || (y && pixels[i - width] !== id)) rims[i] = OUTLINE;
    }
  }
  const [fillMap, rimMap] = await Promise.all([createImageBitmap(fill), createImageBitmap(rim)]);
  const answer = { tile: order, fill: fillMap, rim: rimMap, width, height, ids: pixels.slice(), path: order.close ? outline(pixels, width, height) : "" };
  self.postMessage(answer, [fillMap, rimMap, answer.ids.buffer]);
}

// The borders of all cells as lines between pixels: straight pieces are one line each.
function outline(pixels, width, height) {
  const path = [];
  const differ = (a, b) => a !== b && (a || b);
  for (let y = 1; y < height; y += 1) {
    for (let x = 0, from = -1; x <= width; x += 1) {
      const edge = x < width && differ(pixels[y * width + x], pixels[(y - 1) * width + x]);
      if (edge && from < 0) from = x;
      else if (!edge && from >= 0) { path.push(`M${from} ${y}H${x}`); from = -1; }
    }
  }
  for (let x = 1; x < width; x += 1) {
    for (let y = 0, from = -1; y <= height; y += 1) {
      const edge = y < height && differ(pixels[y * width + x], pixels[y * width + x - 1]);
      if (edge && from < 0) from = y;
      else if (!edge && from >= 0) { path.push(`M${x} ${from}V${y}`); from = -1; }
    }
  }
  return path.join("");
}

// What is known of the cells of a plane, its points, and the tracks of all planes.
async function table({ plane, layer }) {
  const { labels, points, tracks } = file.manifest;
  try {
    const [cell, spot, lineage] = await Promise.all([labels[`${plane}/${layer}`], points[plane], tracks].map((one) =>
      one ? file.part(one.cells ?? one.part ?? one) : null));
    self.postMessage({ table: { plane, layer, cells: cell, points: spot, tracks: lineage && JSON.parse(new TextDecoder().decode(lineage)) } });
  } catch (error) {
    self.postMessage({ failed: error.message });
  }
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
