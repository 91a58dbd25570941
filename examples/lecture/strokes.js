// From a pen's strokes to a picture as MNIST has it: 28x28 grey levels, white ink on black.

const SIDE = 200; // of the paper, in its own pixels
const PEN = 8; // radius of the pen

/** Paper without ink: SIDE x SIDE numbers from 0 for paper to 1 for ink. */
const blank = () => range(SIDE).map(() => new Array(SIDE).fill(0));

/** Draw a straight line from one point to another; its edge fades within a pixel. */
function drawLine(ink, [x0, y0], [x1, y1]) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const inside = (value) => Math.max(0, Math.min(SIDE - 1, Math.round(value)));
  const reach = PEN + 1;
  for (let y = inside(Math.min(y0, y1) - reach); y <= inside(Math.max(y0, y1) + reach); y++) {
    for (let x = inside(Math.min(x0, x1) - reach); x <= inside(Math.max(x0, x1) + reach); x++) {
      const along = Math.max(0, Math.min(1, ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1)));
      const away = Math.hypot(x - x0 - along * dx, y - y0 - along * dy);
      ink[y][x] = Math.max(ink[y][x], Math.min(1, PEN + 0.5 - away));
    }
  }
}

/** The points of a smooth curve through the given ones (Catmull and Rom's). */
function smooth(points) {
  const at = (index) => points[Math.max(0, Math.min(points.length - 1, index))];
  const between = (a, b, c, d, t) =>
    b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
  return range(8 * (points.length - 1) + 1).map((step) => {
    const [first, t] = [Math.floor(step / 8), (step % 8) / 8];
    return [0, 1].map((axis) => between(...range(4).map((k) => at(first - 1 + k)[axis]), t));
  });
}

/** Strokes on paper; a stroke is a list of points. */
function drawStrokes(strokes) {
  const ink = blank();
  for (const stroke of strokes) {
    const points = smooth(stroke);
    points.forEach((point, index) => drawLine(ink, points[Math.max(0, index - 1)], point));
  }
  return ink;
}

/** The first and last row and column with ink; null for blank paper. */
function inkBox(ink) {
  const rows = range(SIDE).filter((y) => ink[y].some((value) => value > 0));
  const columns = range(SIDE).filter((x) => ink.some((row) => row[x] > 0));
  if (!rows.length) return null;
  return { top: rows[0], bottom: rows.at(-1), left: columns[0], right: columns.at(-1) };
}

/** Scale the ink in its box so that the longer side has 20 pixels; a pixel's level is the mean ink that covers it. */
function scaled(ink, { top, bottom, left, right }) {
  const scale = 20 / Math.max(bottom - top + 1, right - left + 1);
  const map = range(20).map(() => new Array(20).fill(0));
  const spread = (start, add) => { // how much of [start, start + scale] lies in each pixel
    for (let pixel = Math.floor(start); pixel < Math.min(20, start + scale); pixel++) {
      add(pixel, Math.min(pixel + 1, start + scale) - Math.max(pixel, start));
    }
  };
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      if (ink[y][x] === 0) continue;
      spread((y - top) * scale, (row, high) => spread((x - left) * scale, (column, wide) => {
        map[row][column] += ink[y][x] * high * wide;
      }));
    }
  }
  return map;
}

/** The mean row and column of a map's ink, counted in pixels from the middle of the first one. */
function centreOfMass(map) {
  const total = map.flat().reduce((sum, value) => sum + value, 0);
  const mean = (position) =>
    map.reduce((sum, row, y) => row.reduce((part, value, x) => part + value * position(y, x), sum), 0) / total;
  return [mean((y) => y), mean((_, x) => x)];
}

/** Move a map by whole pixels into a square of `size`; what leaves it is lost. */
function moved(map, down, right, size = map.length) {
  return range(size).map((y) => range(size).map((x) => map[y - down]?.[x - right] ?? 0));
}

/**
 * Prepare ink as MNIST was made [LeCun 1998, section III-A]: scaled into 20x20 pixels with its proportions kept, then
 * centred in 28x28 by its centre of mass, here to the nearest pixel. Returns grey levels 0 to 255; null without ink.
 */
function asMnist(ink) {
  const box = inkBox(ink);
  if (!box) return null;
  const map = scaled(ink, box);
  const [row, column] = centreOfMass(map);
  const centred = moved(map, Math.round(13.5 - row), Math.round(13.5 - column), 28);
  return centred.map((line) => line.map((value) => Math.round(255 * Math.min(1, value))));
}

// Digits that were drawn for this page, in a square of 200 x 200; they are not MNIST's.
const SAMPLES = {
  0: [[[112, 36], [76, 42], [56, 80], [58, 126], [84, 162], [118, 156], [140, 118], [138, 70], [116, 40], [100, 38]]],
  1: [[[112, 34], [106, 80], [100, 124], [94, 166]]],
  2: [[[62, 66], [78, 42], [112, 36], [132, 58], [124, 88], [94, 122], [62, 156], [76, 158], [110, 154], [146, 158]]],
  3: [[[64, 50], [90, 36], [122, 42], [128, 66], [108, 88], [86, 94], [116, 100], [136, 124], [124, 154], [92, 164],
    [62, 152]]],
  4: [[[84, 38], [72, 74], [60, 106], [92, 110], [146, 104]], [[128, 40], [120, 90], [114, 168]]],
  5: [[[136, 40], [104, 40], [76, 44], [72, 70], [68, 92], [98, 86], [126, 100], [134, 128], [116, 156], [84, 164],
    [60, 154]]],
  6: [[[122, 34], [92, 58], [70, 96], [64, 132], [80, 162], [112, 162], [130, 138], [120, 112], [92, 108], [70, 128]]],
  7: [[[60, 48], [90, 46], [138, 42], [124, 76], [106, 118], [92, 166]]],
  8: [[[124, 52], [100, 36], [76, 50], [80, 76], [106, 98], [128, 124], [120, 154], [94, 166], [70, 150], [76, 122],
    [104, 98], [124, 74], [124, 52]]],
  9: [[[130, 62], [112, 40], [84, 46], [72, 74], [88, 96], [116, 88], [130, 62], [128, 100], [118, 136], [106, 168]]],
};
