// What can be taken along from the viewer: the picture as it is seen, and a table of a plane's cells.

export function picture(canvas) {
  return canvas.convertToBlob({ type: "image/png" });
}

// Columns of cells as text; middles count from the middle of the first pixel. size: µm of a pixel, if known.
export function table({ id, area, x, y }, size) {
  const rows = [["id", "area_px", ...(size ? ["area_um2"] : []), "x_px", "y_px"]];
  for (let n = 0; n < id.length; n += 1) {
    rows.push([id[n], area[n], ...(size ? [(area[n] * size * size).toFixed(3)] : []), x[n].toFixed(2), y[n].toFixed(2)]);
  }
  return new Blob([rows.map((row) => row.join(",")).join("\n"), "\n"], { type: "text/csv" });
}
