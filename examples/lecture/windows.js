// A window steps over an image: what is multiplied, what is summed, and where the sum goes.

const KERNELS = { // ones whose numbers are written by hand; a network learns its own
  "vertical edges": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
  "horizontal edges": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
  "outline": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
  "blur": range(3).map(() => range(3).map(() => 1 / 9)),
  "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
  "none (a copy)": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
};

/** The products in one window, a line for each row of the kernel, and their sum. */
function sumInWords(image, kernel, y, x) {
  const lines = kernel.map((row, i) =>
    row.map((weight, j) => `${written(image[y + i][x + j])} \u00d7 ${written(weight)}`).join(" + "));
  return `${lines.join("\n+ ")}\n= ${written(correlate(image, kernel)[y][x])}`;
}

/** Buttons, and arrow keys inside `area`, that step through `count()` places; `show` draws the place. */
function stepper(area, count, show) {
  let place = 0;
  let timer = null;
  const go = (next) => {
    place = Math.max(0, Math.min(count() - 1, next));
    previous.ariaDisabled = `${place === 0}`; // not `disabled`, which would take the keyboard's focus away
    following.ariaDisabled = `${place >= count() - 1}`;
    show(place);
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  };
  const walk = (step) => {
    stop();
    go(place + step);
  };
  const previous = button("Previous", () => walk(-1));
  const following = button("Next", () => walk(1));
  const play = button("Play", () => {
    if (timer) return stop();
    if (place >= count() - 1) go(0);
    play.textContent = "Stop";
    timer = setInterval(() => {
      go(place + 1);
      if (place >= count() - 1) stop();
    }, 700);
  });
  Object.assign(area, { tabIndex: 0, role: "group", ariaLabel: "windows; the arrow keys step" });
  area.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    walk(step);
  });
  return {
    element: el("div", { className: "buttons" }, previous, following, play),
    go(next) { stop(); go(next); },
  };
}

/** The lecture's 5x5 image and 3x3 kernel, window by window. */
function steps() {
  const { image, kernel } = EMBEDDED.example;
  const output = correlate(image, kernel);
  const width = output[0].length;
  const [input, result] = [el("div"), el("div")];
  const sum = el("output", { className: "sum", role: "status", ariaLive: "polite" });
  const area = el("div");
  const control = stepper(area, () => output.length * width, (place) => {
    const [y, x] = [Math.floor(place / width), place % width];
    const frames = [{ row: y, column: x, size: kernel.length, kind: "window" }];
    input.replaceChildren(grid("input", image, { frames }));
    const filled = output.map((row, i) => row.map((value, j) => (i * width + j <= place ? value : null)));
    const at = [{ row: y, column: x, size: 1, kind: "window" }];
    result.replaceChildren(grid("output", filled, { frames: at, chosen: (i, j) => control.go(i * width + j) }));
    sum.value = `Window ${place + 1} of ${output.length * width}:\n${sumInWords(image, kernel, y, x)}`;
  });
  control.go(0);
  area.append(
    el("div", { className: "row" }, figure("input", input), figure("kernel", grid("kernel", kernel)),
      figure("output", result)),
    control.element, sum);
  return area;
}

/** A real digit and what a kernel makes of it. */
function filtered() {
  const [before, after] = [picture("the digit", "large"), picture("what the kernel makes of it", "large")];
  const shown = el("div");
  const words = el("p", { role: "status", ariaLive: "polite" });
  const update = () => {
    const map = SCANNED[digit.value].map((row) => row.map((level) => level / 255));
    const output = correlate(map, kernel.value);
    before.paint(map, (value) => grey(255 * value));
    shown.replaceChildren(grid("kernel", kernel.value));
    after.paint(output, signed(Math.max(...output.flat().map(Math.abs))));
    words.textContent = `${map.length} x ${map.length} pixels in, ${output.length} x ${output.length} out. ` +
      `The output goes from ${written(Math.min(...output.flat()))} to ${written(Math.max(...output.flat()))}: ` +
      "blue is below 0, white is 0, red is above.";
  };
  const digit = chooser("Digit", Object.fromEntries(range(10).map((value) => [`${value}`, value])), update);
  const kernel = chooser("Kernel", KERNELS, update);
  update();
  return el("div", {},
    el("div", { className: "buttons" }, digit.element, kernel.element),
    el("div", { className: "row" }, figure("digit", before.element), figure("kernel", shown),
      figure("output", after.element)),
    words,
    el("p", { className: "note" }, "A person's digit, scanned, of scikit-learn's data: " +
      "8 x 8 pixels, enlarged to 24 x 24."));
}

function windows(root) {
  root.append(
    el("h3", {}, "A window steps over an image"),
    el("p", {}, "The kernel is laid over nine numbers of the input. Each is multiplied by the number that lies over " +
      "it, and the sum of the nine products is one number of the output. The arrow keys step, too."),
    steps(),
    el("h3", {}, "The same on a digit"),
    filtered());
}
