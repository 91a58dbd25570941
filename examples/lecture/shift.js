// A digit moves in its picture; a fully connected network and LeNet-5 answer side by side.

const FARTHEST = 6;

/** How far and where to: "3 left". */
const way = (steps, forward, backward) => `${Math.abs(steps)} ${steps < 0 ? backward : forward}`;

/** One network's answer: its name, the digit that it takes it for, and the bars. */
function witness(network) {
  const words = el("p", { className: "answer" });
  const answer = bars();
  return {
    element: el("section", { className: "witness", ariaLabel: `${network.title}, ${network.training}` },
      el("h4", {}, network.title), el("p", { className: "note" }, network.training), words, answer.element),
    show(pixels, digit) {
      const probabilities = softmax(network.forward(pixels).output);
      const best = likeliest(probabilities);
      const right = best === digit;
      answer.show(probabilities);
      words.className = `answer ${right ? "right" : "wrong"}`;
      words.textContent = `${right ? "\u2713" : "\u2717"} ${best}, ${percent(probabilities[best])}`;
      return best;
    },
  };
}

function shift(root) {
  const shown = picture("the shifted digit", "large");
  const witnesses = Object.values(NETWORKS).map(witness);
  const words = el("p", { className: "summary", role: "status", ariaLive: "polite" });
  let digit = 3;
  const update = () => {
    const pixels = moved(asMnist(drawStrokes(SAMPLES[digit])), down.value, right.value);
    shown.paint(pixels, grey);
    const answers = witnesses.map((witness) => witness.show(pixels, digit));
    words.textContent = `Digit ${digit}, ${way(right.value, "right", "left")}, ${way(down.value, "down", "up")}. ` +
      `Answers: ${answers.join(", ")}.`;
  };
  const right = slider("Right", -FARTHEST, FARTHEST, 0, update);
  const down = slider("Down", -FARTHEST, FARTHEST, 0, update);
  const choose = (chosen) => {
    digit = Number(chosen);
    update();
  };
  const centre = () => {
    right.value = down.value = 0;
    update();
  };
  root.append(
    el("h3", {}, "Shift a digit, and watch who still knows it"),
    el("p", {}, "All networks see the same picture of 28 x 28 pixels, and what leaves it is lost. Compare " +
      "networks that were trained alike: shifted digits in training help, too, whatever the network."),
    sampleButtons(choose),
    el("div", { className: "row" },
      figure("the picture", shown.element),
      el("div", { className: "column" }, right.element, down.element, button("To the middle", centre))),
    words,
    el("div", { className: "row witnesses" }, ...witnesses.map(({ element }) => element)),
    el("p", { className: "note" }, "The digits were drawn for this page and are not MNIST's, on which the networks " +
      "were trained. One digit is an example: error rates need many."));
  update();
}
