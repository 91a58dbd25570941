// How stride, padding and the size of the kernel decide the size of the output, and which windows there are.

/** Say in words what the formula gives, or why there is no output. */
function sizeInWords(size, kernel, stride, padding) {
  const padded = size + 2 * padding;
  if (kernel > padded) {
    return `No output: the window of ${kernel} x ${kernel} is larger than the padded input of ${padded} x ${padded}.`;
  }
  const output = outputSize(size, kernel, stride, padding);
  const left = (padded - kernel) % stride;
  const missing = stride - left;
  const unread = range(padded).some((position) => unreadAt(position, output, kernel, stride));
  return `Output size = \u230a(input + 2\u00b7padding \u2212 kernel) / stride\u230b + 1 = ` +
    `\u230a(${size} + 2\u00b7${padding} \u2212 ${kernel}) / ${stride}\u230b + 1 = ${output}. ` +
    (left === 0 ? "The last window ends exactly at the edge." :
      `The next window, dashed, does not fit: ${missing} ${missing === 1 ? "column is" : "columns are"} missing.`) +
    (unread ? " Hatched numbers are in no window." : "");
}

/** Whether a row or column is read by no window: behind the last one, or in a gap where the stride is larger. */
function unreadAt(position, count, kernel, stride) {
  return !range(count).some((window) => window * stride <= position && position < window * stride + kernel);
}

function stride_padding(root) {
  const { image, kernel } = EMBEDDED.larger;
  const cut = (map, size, from = 0) => map.slice(from, from + size).map((row) => row.slice(from, from + size));
  const middle = (map, size) => cut(map, size, Math.floor((map.length - size) / 2));
  const [input, weights, result] = [el("div"), el("div"), el("div")];
  const words = el("p", { className: "size", role: "status", ariaLive: "polite" });
  const sum = el("output", { className: "sum" });
  let output = [];
  const show = (place) => {
    const [n, k, s, p] = [size.value, window.value, stride.value, padding.value];
    const [map, kernelMap] = [cut(image, n), middle(kernel, k)];
    const count = output.length;
    const [y, x] = count ? [Math.floor(place / count), place % count] : [0, 0];
    const frames = count ? [{ row: y * s, column: x * s, size: k, kind: "window" }] : [];
    const fits = (n + 2 * p - k) % s === 0;
    if (count && !fits) frames.push({ row: y * s, column: count * s, size: k, kind: "missing" });
    const kinds = (i, j) => {
      const frame = Math.min(i, j) < p || Math.max(i, j) >= n + p;
      const unread = count && (unreadAt(i, count, k, s) || unreadAt(j, count, k, s));
      return `${frame ? "padding" : ""} ${unread ? "unread" : ""}`;
    };
    input.replaceChildren(grid("padded input", pad(map, p), { frames, kinds, room: 2 }));
    weights.replaceChildren(grid("kernel", kernelMap));
    if (!count) return result.replaceChildren(el("p", {}, "none")), (sum.value = "");
    const at = [{ row: y, column: x, size: 1, kind: "window" }];
    result.replaceChildren(grid("output", output, { frames: at, chosen: (i, j) => control.go(i * count + j) }));
    sum.value = `Window ${place + 1} of ${count * count}: the sum of its products is ${written(output[y][x])}.`;
  };
  const update = () => {
    const [n, k, s, p] = [size.value, window.value, stride.value, padding.value];
    output = k > n + 2 * p ? [] : correlate(cut(image, n), middle(kernel, k), s, p);
    words.textContent = sizeInWords(n, k, s, p);
    control.go(0);
  };
  const size = slider("Input", 3, 8, 5, update);
  const window = slider("Kernel", 1, 5, 3, update);
  const stride = slider("Stride", 1, 3, 1, update);
  const padding = slider("Padding", 0, 2, 0, update);
  const area = el("div");
  const control = stepper(area, () => output.length ** 2, show);
  area.append(
    el("div", { className: "row" }, figure("input with padding", input), figure("kernel", weights),
      figure("output", result)),
    control.element, sum);
  root.append(
    el("h3", {}, "Stride and padding"),
    el("p", {}, "Padding puts a frame of zeros around the input. The stride is how far the window moves at a time. " +
      "Click a number of the output, or step with the arrow keys, to see its window."),
    el("div", { className: "sliders" }, ...[size, window, stride, padding].map(({ element }) => element)),
    words, area);
  update();
}
