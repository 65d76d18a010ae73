// Lines and points over the picture, of one width at any zoom: spots, where the cells of a movie came from, and the
// cell that is pointed at. Pixel 0 of the image has its middle at 0.5.

const SPOT = 5;
const TAIL = 2.2;
const INSIDE = "#ff6e6e", OUTSIDE = "#d5dedc";

// points: columns x, y, cell; `assigned`: whether cells of points are known. Points of one look are one drawing.
export function drawSpots(pen, { x, y, zoom, width, height, ratio }, points, assigned) {
  const side = Math.ceil(SPOT * ratio), half = side / 2;
  const looks = [dot(side, INSIDE), dot(side, OUTSIDE)];
  for (let i = 0; i < points.x.length; i += 1) {
    const left = x + (points.x[i] + 0.5) * zoom - half, top = y + (points.y[i] + 0.5) * zoom - half;
    if (left < -side || top < -side || left > width || top > height) continue;
    pen.drawImage(looks[assigned && !points.cell[i] ? 1 : 0], Math.round(left), Math.round(top));
  }
}

const dots = new Map();

function dot(side, colour) {
  const key = `${side}${colour}`;
  if (!dots.has(key)) {
    const canvas = new OffscreenCanvas(side, side), pen = canvas.getContext("2d");
    pen.fillStyle = colour;
    pen.arc(side / 2, side / 2, side / 2, 0, 2 * Math.PI);
    pen.fill();
    dots.set(key, canvas);
  }
  return dots.get(key);
}

// tails: [id, [x, y, x, y, …]] in pixels of the image.
export function drawTails(pen, { x, y, zoom, ratio }, tails) {
  pen.lineWidth = TAIL * ratio;
  pen.lineCap = pen.lineJoin = "round";
  for (const [id, points] of tails) {
    if (points.length < 4) continue;
    pen.strokeStyle = `hsl(${((id * 137.508) % 360).toFixed(0)} 85% 66%)`;
    pen.beginPath();
    for (let i = 0; i < points.length; i += 2) pen.lineTo(x + (points[i] + 0.5) * zoom, y + (points[i + 1] + 0.5) * zoom);
    pen.stroke();
  }
}

// A light over a cell within its box: what `cellAt` says at each pixel of a level.
export function lightOf(id, box, level, cellAt) {
  const scale = 2 ** Math.max(0, level);
  const left = Math.floor(box.left / scale), top = Math.floor(box.top / scale);
  const width = Math.ceil(box.right / scale) - left, height = Math.ceil(box.bottom / scale) - top;
  const canvas = new OffscreenCanvas(width, height), pen = canvas.getContext("2d");
  const image = pen.createImageData(width, height), pixels = new Uint32Array(image.data.buffer);
  let lit = 0;
  for (let y = 0, i = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, i += 1) if (cellAt((left + x) * scale, (top + y) * scale) === id) { pixels[i] = 0xa0ffffff; lit += 1; }
  }
  pen.putImageData(image, 0, 0);
  return lit ? { canvas, left: left * scale, top: top * scale, width: width * scale, height: height * scale } : null;
}
