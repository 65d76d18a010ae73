// Which tiles a view shows. Levels above 0 are reduced by 2, 4, 8…; below 0 each pixel is drawn 4 or 16 times as wide,
// so that outlines are thin lines between pixels.

export const ENLARGED = [-2, -4];

export class Grid {
  constructor({ width, height, tile, images }) {
    Object.assign(this, { width, height, side: tile });
    this.levels = Object.values(images)[0].levels;
    this.last = this.levels.length - 1;
  }

  // The level whose pixels are about as large as those of the screen, `zoom` of which go to one of the image.
  level(zoom) {
    const reduced = Math.floor(Math.log2(1 / zoom) + 0.3);
    if (reduced >= 0) return Math.min(this.last, reduced);
    return reduced > ENLARGED[0] ? 0 : reduced > ENLARGED[1] ? ENLARGED[0] : ENLARGED[1];
  }

  // The places [column, row] in a window {x, y, zoom, width, height}, from the middle outwards.
  seen(level, { x, y, zoom, width, height }) {
    const side = this.side * 2 ** level;
    const range = (from, size, all) => [
      Math.max(0, Math.floor(from / zoom / side)), Math.min(Math.ceil(all / side), Math.ceil((from + size) / zoom / side)),
    ];
    const [left, right] = range(-x, width, this.width), [top, bottom] = range(-y, height, this.height);
    const found = [];
    for (let row = top; row < bottom; row += 1) for (let column = left; column < right; column += 1) found.push([column, row]);
    const middle = [(left + right - 1) / 2, (top + bottom - 1) / 2];
    const far = ([c, r]) => Math.hypot(c - middle[0], r - middle[1]);
    return found.sort((a, b) => far(a) - far(b));
  }

  // What of the file a place is made of: the tile of a level, and the region of it.
  source(level, column, row) {
    const real = Math.max(0, level), grow = 2 ** (real - level), side = this.side / grow;
    const place = { level: real, column: Math.floor(column / grow), row: Math.floor(row / grow) };
    const size = this.levels[real];
    const stride = Math.min(this.side, size.width - place.column * this.side);
    const rows = Math.min(this.side, size.height - place.row * this.side);
    const left = (column % grow) * side, top = (row % grow) * side;
    return { ...place, stride, region: { left, top, grow, width: Math.min(side, stride - left), height: Math.min(side, rows - top) } };
  }
}
