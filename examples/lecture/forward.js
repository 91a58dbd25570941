// The networks' forward passes in plain JavaScript: convolution, pooling, tanh, fully connected layers.
//
// A map is an array of rows, and a row is an array of numbers: map[y][x]. A layer of several maps is an array of maps.
// A network is {size, mean, std, layers}; layers holds the trained numbers under PyTorch's names, as nested arrays:
// layers["c1.weight"][output][input][y][x].

const range = (count) => Array.from({ length: count }, (_, index) => index);

/** Put a frame of zeros around a map. */
function pad(map, padding) {
  const zeros = (count) => new Array(count).fill(0);
  const width = map[0].length + 2 * padding;
  const rows = map.map((row) => [...zeros(padding), ...row, ...zeros(padding)]);
  return [...range(padding).map(() => zeros(width)), ...rows, ...range(padding).map(() => zeros(width))];
}

/** How many windows of `kernel` pixels fit into `size` pixels; less than 1 where not even one does. */
const outputSize = (size, kernel, stride, padding) => Math.floor((size + 2 * padding - kernel) / stride) + 1;

/** Slide a kernel over a map; each number of the output is the sum of the products in one window. */
function correlate(map, kernel, stride = 1, padding = 0) {
  const padded = pad(map, padding);
  const height = outputSize(map.length, kernel.length, stride, padding);
  const width = outputSize(map[0].length, kernel[0].length, stride, padding);
  return range(height).map((y) => range(width).map((x) => {
    let sum = 0;
    for (let i = 0; i < kernel.length; i++) {
      for (let j = 0; j < kernel[i].length; j++) sum += padded[y * stride + i][x * stride + j] * kernel[i][j];
    }
    return sum;
  }));
}

/** Apply a function to every number of every map. */
const each = (maps, f) => maps.map((map) => map.map((row) => row.map(f)));

/** A convolutional layer: each output map is the sum of what its kernels find in all input maps, plus a bias. */
function conv(maps, weight, bias) {
  return weight.map((kernels, output) => {
    const found = kernels.map((kernel, input) => correlate(maps[input], kernel));
    return found[0].map((row, y) => row.map((_, x) => found.reduce((sum, map) => sum + map[y][x], bias[output])));
  });
}

/** The mean of every 2x2 pixels, which halves each side. */
function averagePool(maps) {
  return maps.map((map) => range(map.length / 2).map((y) => range(map[0].length / 2).map((x) =>
    (map[2 * y][2 * x] + map[2 * y][2 * x + 1] + map[2 * y + 1][2 * x] + map[2 * y + 1][2 * x + 1]) / 4)));
}

/** A fully connected layer: each output is a weighted sum of all inputs, plus a bias. */
function dense(inputs, weight, bias) {
  return weight.map((row, output) => row.reduce((sum, value, input) => sum + value * inputs[input], bias[output]));
}

/** A digit as a network's input: 28x28 grey levels 0 to 255 become 0 to 1, padded with background, normalised. */
function asInput(pixels, network) {
  const padded = pad(pixels, (network.size - pixels.length) / 2);
  return each([padded], (level) => (level / 255 - network.mean) / network.std);
}

/** LeNet-5 as it is taught today: all its maps by name, and the ten logits as `output`. */
function lenet5(pixels, network) {
  const { layers } = network;
  const c1 = each(conv(asInput(pixels, network), layers["c1.weight"], layers["c1.bias"]), Math.tanh); // 6 of 28x28
  const s2 = averagePool(c1); // 6 of 14x14
  const c3 = each(conv(s2, layers["c3.weight"], layers["c3.bias"]), Math.tanh); // 16 of 10x10
  const s4 = averagePool(c3); // 16 of 5x5
  const c5 = each(conv(s4, layers["c5.weight"], layers["c5.bias"]), Math.tanh).flat(2); // 120
  const f6 = dense(c5, layers["f6.weight"], layers["f6.bias"]).map(Math.tanh); // 84
  return { c1, s2, c3, s4, output: dense(f6, layers["output.weight"], layers["output.bias"]) };
}

/** The fully connected network 784-300-10; it sees a list of pixels, and not which of them are neighbours. */
function mlp(pixels, network) {
  const { layers } = network;
  const hidden = dense(asInput(pixels, network).flat(2), layers["fc1.weight"], layers["fc1.bias"]);
  const rectified = hidden.map((value) => Math.max(0, value)); // 300
  return { output: dense(rectified, layers["fc2.weight"], layers["fc2.bias"]) };
}

/** LeNet-5 of the paper: S2 and S4 have trained numbers, tanh is scaled, the output compares with ten drawings. */
function lenet5_1998(pixels, network) {
  const { layers } = network;
  const squash = (value) => 1.7159 * Math.tanh((2 / 3) * value);
  const subSample = (maps, name) => averagePool(maps).map((map, index) =>
    each([map], (mean) => 4 * mean * layers[`${name}.coefficient`][index] + layers[`${name}.bias`][index])[0]);
  const c1 = each(conv(asInput(pixels, network), layers["c1.weight"], layers["c1.bias"]), squash);
  const s2 = each(subSample(c1, "s2"), squash);
  const c3 = each(conv(s2, layers["c3.weight"], layers["c3.bias"]), squash); // zeros where Table I has no connection
  const s4 = each(subSample(c3, "s4"), squash);
  const c5 = each(conv(s4, layers["c5.weight"], layers["c5.bias"]), squash).flat(2);
  const f6 = dense(c5, layers["f6.weight"], layers["f6.bias"]).map(squash);
  const distance = (code) => code.reduce((sum, value, index) => sum + (f6[index] - value) ** 2, 0);
  return { c1, s2, c3, s4, output: layers["output.codes"].map((code) => -distance(code)) };
}

/** Probabilities that add up to 1; subtracting the largest logit first changes nothing and avoids overflow. */
function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}
