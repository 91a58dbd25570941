// Puts each piece into the places that ask for it: <div class="piece" data-piece="windows"></div>.

const PIECES = { windows, stride_padding, draw, shift };

for (const place of document.querySelectorAll(".piece[data-piece]")) {
  place.replaceChildren(); // what stands there is for readers without JavaScript
  PIECES[place.dataset.piece](place);
}

// The page's one global name, for the curious in the browser's console, and for the tests.
globalThis.lecture = { NETWORKS, SAMPLES, asMnist, correlate, drawStrokes, moved, softmax };
