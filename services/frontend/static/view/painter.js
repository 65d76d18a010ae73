// A worker that draws the picture, so that the page itself never touches a pixel.
// Takes {open: {url, canvas}}, {size}, {view}, {look}, {under: {x, y}}, {step}, {save};
// answers {manifest}, {settled}, {cell}, {file}, {failed}, and where it was given no canvas, {frame}.

import { Scene } from "./scene.js";
import { TileFile } from "./tile-file.js";

let scene = null;

self.onmessage = ({ data }) => {
  if (data.open) open(data.open);
  else if (data.size) scene.resize(data.size);
  else if (data.view) scene.move(data.view);
  else if (data.look) scene.dress(data.look);
  else if (data.under) scene.pointAt(data.under);
  else if (data.step) scene.step(data.step);
  else if (data.save) scene.save(data.save);
};

async function open({ url, canvas }) {
  const tell = (message) => self.postMessage(message, message.frame ? [message.frame] : []);
  try {
    const file = await TileFile.open(url);
    scene = new Scene(canvas, file, tell);
    tell({ manifest: file.manifest });
  } catch (error) {
    tell({ failed: error.message });
  }
}
