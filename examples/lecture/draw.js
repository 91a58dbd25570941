// A digit is drawn; LeNet-5's maps and answer follow the pen.

/** Paper to draw on with a mouse, a finger or a pen; `changed` is called, at most once a frame, after each change. */
function paper(changed) {
  let ink = blank();
  let last = null; // where the pen was, while it is down
  let waiting = false;
  const canvas = picture("paper to draw a digit on", "paper");
  const refresh = () => {
    waiting = false;
    canvas.paint(ink, (value) => grey(255 * value));
    changed(ink);
  };
  const later = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(refresh);
  };
  const draw = (event) => {
    const box = canvas.element.getBoundingClientRect();
    const point = [SIDE * (event.clientX - box.left) / box.width, SIDE * (event.clientY - box.top) / box.height];
    drawLine(ink, last ?? point, point);
    last = point;
    later();
  };
  canvas.element.onpointerdown = (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    canvas.element.setPointerCapture(event.pointerId);
    draw(event);
  };
  canvas.element.onpointermove = (event) => last && draw(event);
  canvas.element.onpointerup = canvas.element.onpointercancel = () => (last = null);
  return {
    element: canvas.element,
    show(strokes) {
      ink = drawStrokes(strokes);
      later();
    },
  };
}

/** A row of small pictures for the maps of one layer. */
function layerOfMaps(name, count, words) {
  const pictures = range(count).map((index) => picture(`${name}, map ${index + 1}`, name.toLowerCase()));
  const maps = el("div", { className: "maps" }, ...pictures.map(({ element }) => element));
  return {
    element: figure(`${name}: ${words}`, maps),
    show: (layer) => pictures.forEach(({ paint }, index) => paint(layer[index], signed(1))),
  };
}

/** One button for each digit that was drawn for this page. */
function sampleButtons(choose) {
  return el("div", { className: "buttons", role: "group", ariaLabel: "digits drawn for this page" },
    ...Object.keys(SAMPLES).map((digit) =>
      button(digit, () => choose(digit), { ariaLabel: `take the drawn digit ${digit}` })));
}

function draw(root) {
  const network = NETWORKS["lenet5-MNIST"];
  const seen = picture("what the network sees", "large");
  const layers = {
    c1: layerOfMaps("C1", 6, "6 maps of 28 x 28, after tanh"),
    s2: layerOfMaps("S2", 6, "6 maps of 14 x 14, means of 2 x 2"),
    c3: layerOfMaps("C3", 16, "16 maps of 10 x 10, after tanh"),
    s4: layerOfMaps("S4", 16, "16 maps of 5 x 5, means of 2 x 2"),
  };
  const answer = bars();
  const words = el("p", { className: "answer", role: "status", ariaLive: "polite" });
  const update = (ink) => {
    const pixels = asMnist(ink);
    seen.paint(pixels ?? moved([[0]], 0, 0, 28), grey);
    if (!pixels) {
      answer.show(null);
      Object.values(layers).forEach((layer) => layer.show(range(16).map(() => [[0]])));
      words.textContent = "Draw a digit, or take one of the ten.";
      return;
    }
    const maps = network.forward(pixels);
    for (const [name, layer] of Object.entries(layers)) layer.show(maps[name]);
    const probabilities = softmax(maps.output);
    const best = likeliest(probabilities);
    answer.show(probabilities);
    words.textContent = `The answer: ${best} (probability ${percent(probabilities[best])}).`;
  };
  const sheet = paper(update);
  root.append(
    el("h3", {}, "Draw a digit, and see what LeNet-5 makes of it"),
    el("p", {}, "Draw in the black square, or take a digit that was drawn for this page."),
    sampleButtons((digit) => sheet.show(SAMPLES[digit])),
    el("div", { className: "row" },
      el("div", {}, figure("your drawing", sheet.element), button("Clear", () => sheet.show([]))),
      figure("what the network sees: 28 x 28", seen.element),
      el("div", { className: "wide" }, words, answer.element)),
    ...Object.values(layers).map(({ element }) => element),
    el("p", { className: "note" }, "Maps are blue for \u22121, white for 0 and red for +1. The drawing is prepared as " +
      "MNIST's digits were (LeCun 1998, section III-A): scaled into 20 x 20 pixels with its proportions kept, then " +
      "centred in 28 x 28 by its centre of mass, here to the nearest pixel. The network was trained on MNIST. It has " +
      "ten answers and no other: a drawing that is no digit gets one of them, too."));
  sheet.show(SAMPLES[3]);
}
