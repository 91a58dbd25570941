// What the pieces share: elements, grids of numbers, small pictures, bars.

/** Make an element with these properties and children. */
function el(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const button = (text, onclick, properties = {}) => el("button", { type: "button", onclick, ...properties }, text);

/** A slider with its name and value; `slider.value` is a number, and `changed` is called after each move. */
function slider(name, min, max, value, changed) {
  const shown = el("b", {}, written(value)); // no <output>: a label would name it, and not the slider
  const input = el("input", { type: "range", min, max, step: 1, value });
  input.oninput = () => {
    shown.textContent = written(input.value);
    changed();
  };
  return {
    element: el("label", { className: "slider" }, el("span", {}, `${name} `, shown), input),
    get value() { return Number(input.value); },
    set value(number) {
      input.value = number;
      shown.textContent = written(number);
    },
  };
}

/** A list to choose from: {text: value}. */
function chooser(name, values, changed) {
  const select = el("select", { onchange: changed }, ...Object.keys(values).map((text) => el("option", {}, text)));
  return { element: el("label", {}, `${name} `, select), get value() { return values[select.value]; } };
}

/** A picture with a caption below it. */
const figure = (caption, ...content) => el("figure", {}, ...content, el("figcaption", {}, caption));

/** A number as it is written in a cell: at most two decimals, and a true minus. */
const written = (value) => `${Math.round(value * 100) / 100}`.replace("-", "\u2212");

/**
 * A table of numbers drawn as squares, with frames for windows over it.
 *
 * `values` may hold null for a square that is still empty. Each frame is {row, column, size, kind}; `kinds` gives a
 * square a class of its own. `room` adds empty columns, so that a frame may stand out.
 */
function grid(name, values, { frames = [], kinds = () => "", room = 0, chosen = null } = {}) {
  const columns = values[0].length + room;
  const spoken = values.map((row) => row.map((value) => value ?? "empty").join(" ")).join("; ");
  const label = `${name}, ${values.length} by ${values[0].length}: ${spoken}`;
  const element = el("div", { className: "grid", role: "img", ariaLabel: label });
  element.style.setProperty("--columns", columns);
  element.style.setProperty("--rows", values.length);
  values.forEach((row, y) => row.forEach((value, x) => {
    const cell = el("span", { className: `cell ${kinds(y, x)}` }, value === null ? "" : written(value));
    cell.style.gridArea = `${y + 1} / ${x + 1}`;
    if (chosen) cell.onclick = () => chosen(y, x);
    element.append(cell);
  }));
  for (const { row, column, size, kind } of frames) {
    const frame = el("span", { className: `frame ${kind}` });
    frame.style.gridArea = `${row + 1} / ${column + 1} / span ${size} / span ${size}`;
    element.append(frame);
  }
  return element;
}

/** Black for 0 to white for 255. */
const grey = (level) => [level, level, level];

/** Blue for -limit, white for 0, red for +limit. */
const signed = (limit) => (value) => {
  const part = Math.min(1, Math.abs(value) / limit);
  return (value < 0 ? [33, 102, 172] : [178, 24, 43]).map((channel) => 255 + part * (channel - 255));
};

/** A canvas for one map, and a function that paints the map on it, pixel by pixel. */
function picture(name, className = "") {
  const canvas = el("canvas", { className: `map ${className}`, role: "img", ariaLabel: name });
  return {
    element: canvas,
    paint(map, colour) {
      const [height, width] = [map.length, map[0].length];
      Object.assign(canvas, { width, height });
      const image = new ImageData(width, height);
      map.flat().forEach((value, index) => image.data.set([...colour(value), 255], 4 * index));
      canvas.getContext("2d").putImageData(image, 0, 0);
    },
  };
}

/** A probability in words; no network is wholly certain. */
const percent = (probability) => (probability > 0.9995 ? "> 99.9%" : `${(100 * probability).toFixed(1)}%`);

/** The position of the largest number. */
const likeliest = (probabilities) => probabilities.indexOf(Math.max(...probabilities));

/** Ten bars for the probabilities of the digits 0 to 9. */
function bars() {
  const rows = range(10).map((digit) => {
    const bar = el("span", { className: "bar" });
    const text = el("span", { className: "percent" });
    return { bar, text, row: el("li", {}, el("b", {}, `${digit}`), el("span", { className: "track" }, bar), text) };
  });
  return {
    element: el("ol", { className: "bars", ariaLabel: "probability of each digit" }, ...rows.map(({ row }) => row)),
    show(probabilities) {
      rows.forEach(({ bar, text, row }, digit) => {
        const probability = probabilities ? probabilities[digit] : 0;
        bar.style.width = `${100 * probability}%`;
        text.textContent = probabilities ? percent(probability) : "";
        row.className = probabilities && digit === likeliest(probabilities) ? "likeliest" : "";
      });
    },
  };
}
