// From numbers to pixels: the channels of an image mixed, and its cells filled and outlined. Arrays in, an image out.

const OUTLINE = 0xff5ef0ff;
const PALETTE = Uint32Array.from({ length: 4096 }, (_, id) => colour(id));

// What does not change from tile to tile: the colours of every value of each channel that is on.
export function prepared({ looks, opacity, outlines }) {
  return { ramps: looks.filter((look) => look.on).map(ramps), share: Math.round(256 * opacity), outlines };
}

// Paints a region of a tile: {left, top, width, height} of it, each pixel `grow` pixels wide.
// planes: a tile's values for each channel that is on; ids: its cells, or null; stride: pixels in a row of the tile.
export function paint({ left, top, width, height, grow }, stride, planes, ids, style) {
  const out = new ImageData(width * grow, height * grow);
  const pixels = grow === 1 ? new Uint32Array(out.data.buffer) : new Uint32Array(width * height);
  for (let y = 0; y < height; y += 1) {
    const from = (top + y) * stride + left, to = y * width;
    mix(pixels, to, planes, from, width, style.ramps);
    if (ids && style.share) fill(pixels, to, ids, from, width, style.share);
  }
  const rims = ids && style.outlines ? edges(ids, stride, left, top, width, height) : null;
  if (grow > 1) enlarge(new Uint32Array(out.data.buffer), pixels, width, height, grow, rims);
  else if (rims) for (let i = 0; i < rims.length; i += 1) if (rims[i]) pixels[i] = OUTLINE;
  return out;
}

// The three colours of each of the 256 values of a channel.
function ramps({ low, high, gamma, tint }) {
  const parts = [0, 1, 2].map((n) => parseInt(tint.slice(1 + 2 * n, 3 + 2 * n), 16));
  const levels = Array.from({ length: 256 }, (_, value) => Math.min(1, Math.max(0, (value - low) / Math.max(1, high - low))) ** gamma);
  const [red, green, blue] = parts.map((part) => Uint16Array.from(levels, (level) => Math.round(level * part)));
  return { red, green, blue, whole: Uint32Array.from(red, (r, v) => (0xff000000 | blue[v] << 16 | green[v] << 8 | r) >>> 0) };
}

function mix(out, to, planes, from, count, ramp) {
  if (planes.length === 1) {
    const values = planes[0], { whole } = ramp[0];
    for (let i = 0; i < count; i += 1) out[to + i] = whole[values[from + i]];
    return;
  }
  for (let i = 0; i < count; i += 1) {
    let red = 0, green = 0, blue = 0;
    for (let c = 0; c < planes.length; c += 1) {
      const value = planes[c][from + i];
      red += ramp[c].red[value]; green += ramp[c].green[value]; blue += ramp[c].blue[value];
    }
    out[to + i] = 0xff000000 | Math.min(255, blue) << 16 | Math.min(255, green) << 8 | Math.min(255, red);
  }
}

// Red and blue are blended together in one number, green in another.
function fill(out, to, ids, from, count, share) {
  const keep = 256 - share;
  for (let i = 0; i < count; i += 1) {
    const id = ids[from + i];
    if (!id) continue;
    const under = out[to + i], over = PALETTE[id & 4095];
    const odd = ((under & 0xff00ff) * keep + (over & 0xff00ff) * share) / 256;
    const even = ((under & 0xff00) * keep + (over & 0xff00) * share) >>> 8;
    out[to + i] = (0xff000000 | odd & 0xff00ff | even & 0xff00) >>> 0;
  }
}

const LEFT = 1, RIGHT = 2, ABOVE = 4, BELOW = 8;

// At which sides a cell's pixel meets another cell or none. What lies beyond the tile is not known, and taken for the same.
function edges(ids, stride, left, top, width, height) {
  const rows = ids.length / stride;
  const found = new Uint8Array(width * height);
  for (let y = 0, i = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, i += 1) {
      const at = (top + y) * stride + left + x, id = ids[at];
      if (!id) continue;
      found[i] = (left + x > 0 && ids[at - 1] !== id ? LEFT : 0) | (left + x + 1 < stride && ids[at + 1] !== id ? RIGHT : 0)
        | (top + y > 0 && ids[at - stride] !== id ? ABOVE : 0) | (top + y + 1 < rows && ids[at + stride] !== id ? BELOW : 0);
    }
  }
  return found;
}

// Each pixel becomes a square, with thin lines at the sides that are edges.
function enlarge(out, pixels, width, height, grow, rims) {
  const stride = width * grow, line = Math.max(1, grow >> 3);
  for (let y = 0, i = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, i += 1) {
      const at = y * grow * stride + x * grow;
      for (let row = 0; row < grow; row += 1) out.fill(pixels[i], at + row * stride, at + row * stride + grow);
      const rim = rims ? rims[i] : 0;
      if (!rim) continue;
      for (let n = 0; n < line; n += 1) {
        if (rim & ABOVE) out.fill(OUTLINE, at + n * stride, at + n * stride + grow);
        if (rim & BELOW) out.fill(OUTLINE, at + (grow - 1 - n) * stride, at + (grow - 1 - n) * stride + grow);
        for (let row = 0; row < grow; row += 1) {
          if (rim & LEFT) out[at + row * stride + n] = OUTLINE;
          if (rim & RIGHT) out[at + row * stride + grow - 1 - n] = OUTLINE;
        }
      }
    }
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
