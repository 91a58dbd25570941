// The numbers that the page carries: EMBEDDED, which examples/lecture_pieces.py wrote above this line.

/** The bytes of a text in base64. */
const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

/** The number that 16 bits stand for (IEEE 754, half precision): sign, 5 bits of exponent, 10 of fraction. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15); // trained numbers are finite: no exponent is 31
}

/** A flat list as nested arrays of this shape. */
function nested(values, shape) {
  if (shape.length === 1) return values;
  const length = values.length / shape[0];
  return range(shape[0]).map((index) => nested(values.slice(index * length, (index + 1) * length), shape.slice(1)));
}

/** An embedded tensor as nested arrays of numbers. */
function tensor({ shape, halves }) {
  const data = new DataView(bytes(halves).buffer);
  return nested(range(data.byteLength / 2).map((index) => half(data.getUint16(2 * index, true))), shape);
}

const FORWARD = { lenet5, mlp, lenet5_1998 };

/** The embedded networks by name, ready to use: {title, training, size, mean, std, layers, forward(pixels)}. */
const NETWORKS = Object.fromEntries(Object.entries(EMBEDDED.networks).map(([name, { tensors, ...facts }]) => {
  const layers = Object.fromEntries(Object.entries(tensors).map(([key, value]) => [key, tensor(value)]));
  const network = { ...facts, layers };
  return [name, { ...network, forward: (pixels) => FORWARD[network.model](pixels, network) }];
}));

/** Handwritten digits of scikit-learn's data, one for each class, as maps of 0 to 255. */
const SCANNED = nested([...bytes(EMBEDDED.scanned.bytes)], EMBEDDED.scanned.shape);
