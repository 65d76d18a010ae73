// Lines and points over the picture, in its own coordinates: spots, and where the cells of a movie came from.

import { drawing } from "./stage.js";

export class Marks {
  // Fits a drawing over a picture of a size.
  open(world, width, height) {
    this.spots = drawing(width, height);
    this.tails = drawing(width, height, "g");
    for (const [name, element] of [["spots", this.spots], ["tails", this.tails]]) {
      element.setAttribute("class", name);
      Object.assign(element.style, { width: `${width}px`, height: `${height}px` });
      world.append(element);
    }
    // One line for all spots within cells, one for all others.
    this.spots.append(this.spots.firstChild.cloneNode());
    [this.inside, this.outside] = this.spots.children;
    this.outside.setAttribute("class", "outside");
  }

  // Spots: columns x, y, cell. A point is a line without length and with round ends. Pixel 0 has its middle at 0.5.
  showSpots(points, assigned) {
    const paths = [[], []];
    for (let i = 0; i < points.x.length; i += 1) {
      paths[assigned && !points.cell[i] ? 1 : 0].push(`M${(points.x[i] + 0.5).toFixed(1)} ${(points.y[i] + 0.5).toFixed(1)}h0`);
    }
    this.inside.setAttribute("d", paths[0].join(""));
    this.outside.setAttribute("d", paths[1].join(""));
  }

  // Tails: for each id the places it had, oldest first; daughters begin at their mother's last place.
  showTails(places) {
    const group = this.tails.firstChild;
    group.replaceChildren(...[...places].filter(([, points]) => points.length > 1).map(([id, points]) => {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", `M${points.map(([x, y]) => `${(x + 0.5).toFixed(1)} ${(y + 0.5).toFixed(1)}`).join("L")}`);
      path.style.stroke = `hsl(${((id * 137.508) % 360).toFixed(0)} 85% 66%)`;
      return path;
    }));
  }
}
