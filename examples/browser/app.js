// The page: the text is read on this machine, and nothing is sent.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
import { Reader } from "./reader.js";

ort.env.wasm.numThreads = 1; // more need headers of the server (cross-origin isolation)
const [text, status, result] = ["text", "status", "result"].map((id) => document.getElementById(id));

function show(value, found) {
  const chars = Array.from(value);
  let at = 0;
  result.replaceChildren();
  for (const { start, end, label } of found) {
    const mark = document.createElement("mark");
    const small = document.createElement("small");
    small.textContent = label;
    mark.append(chars.slice(start, end).join(""), small);
    result.append(chars.slice(at, start).join(""), mark);
    at = end;
  }
  result.append(chars.slice(at).join(""));
}

try {
  const reader = await Reader.load(ort, "model/");
  let last = Promise.resolve();
  const read = () => {
    // One run after the other; only the newest text is shown.
    last = last.then(async () => {
      const value = text.value;
      try {
        show(value, await reader.entities(value));
        status.textContent = "";
      } catch (error) {
        status.textContent = error.message;
      }
    });
    return last;
  };
  text.addEventListener("input", read);
  window.reader = reader; // for the console, and for tests
  await read();
} catch (error) {
  status.textContent = `The model can't be loaded: ${error.message}`;
}
