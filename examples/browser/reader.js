// From a text to its entities, by the decode graph of an onnx folder of an export.
// The rules are those of reader.py in that folder. Offsets count code points, as in Python.

import { WordPieces } from "./wordpieces.js";

export class Reader {
  // ort: onnxruntime-web. session: that of decode.onnx. info: best_model.json.
  // tokenizer: the content of tokenizer.json.
  constructor(ort, session, info, tokenizer) {
    if (info.lang !== "zh") throw new Error("this example splits Chinese texts only");
    if (info.whole_pieces) throw new Error("this example does not read imported models");
    Object.assign(this, { ort, session, info });
    this.wordpieces = new WordPieces(tokenizer);
  }

  // Loads the files of a folder by its address, such as "model/".
  static async load(ort, address) {
    const json = async (name) => (await fetch(address + name)).json();
    const session = await ort.InferenceSession.create(`${address}decode.onnx`, {
      executionProviders: ["wasm"],
      // The weights of the graph are in a file of their own.
      externalData: [{ path: "weights.bin", data: `${address}weights.bin` }],
    });
    return new Reader(ort, session, await json("best_model.json"), await json("tokenizer.json"));
  }

  // The entities of a text: [{start, end, label, text}].
  async entities(text) {
    const chars = Array.from(text);
    const tokens = split(text);
    if (!tokens.length) return [];
    const tags = await this.#tags(text, tokens);
    return spans(tags.map((tag) => this.info.tags[tag])).flatMap((found) => {
      let [first, last] = found;
      while (first < last && invisible(chars, tokens[first])) first++;
      while (first < last && invisible(chars, tokens[last - 1])) last--;
      if (first === last) return [];
      const [start, end] = [tokens[first][0], tokens[last - 1][1]];
      return [{ start, end, label: found[2], text: chars.slice(start, end).join("") }];
    });
  }

  async #tags(text, tokens) {
    const pieces = this.wordpieces.read(text);
    const { before, after } = this.wordpieces;
    const edges = this.#edges(text, pieces);
    const width = Math.max(...edges.slice(1).map((edge, i) => edge - edges[i]), 0);
    const length = width + before.length + after.length;
    if (length > this.info.max_length) throw new Error("a sentence is too long for this example");
    const rows = edges.length - 1;
    const ids = new BigInt64Array(rows * length);
    const mask = new BigInt64Array(rows * length);
    for (let row = 0; row < rows; row++) {
      const own = pieces.slice(edges[row], edges[row + 1]).map((piece) => piece.id);
      [...before, ...own, ...after].forEach((id, i) => {
        ids[row * length + i] = BigInt(id);
        mask[row * length + i] = 1n;
      });
    }
    const words = continued(text, tokens, this.info);
    const places = new BigInt64Array(tokens.length * 3);
    tokens.forEach(([start, end], i) => {
      const first = pieces.findIndex((piece) => piece.end > start);
      let last = first;
      while (last >= 0 && last < pieces.length && pieces[last].start < end) last++;
      const none = first < 0 || last === first;
      const row = none ? 0 : edges.findLastIndex((edge) => edge <= first);
      if (!none && last > edges[row + 1]) throw new Error("a token lies in two sentences");
      const shift = row * length + before.length - edges[row];
      // 1, 1 stands for a token without wordpieces.
      const own = none ? [1, 1] : [first + shift, last + shift];
      [...own, words[i] ? 1 : 0].forEach((number, k) => (places[3 * i + k] = BigInt(number)));
    });
    const { Tensor } = this.ort;
    const given = {
      input_ids: new Tensor("int64", ids, [rows, length]),
      attention_mask: new Tensor("int64", mask, [rows, length]),
      token_type_ids: new Tensor("int64", new BigInt64Array(rows * length), [rows, length]),
      token_pieces: new Tensor("int64", places, [1, tokens.length, 3]),
    };
    const used = Object.entries(given).filter(([name]) => this.session.inputNames.includes(name));
    const { tags } = await this.session.run(Object.fromEntries(used));
    return Array.from(tags.data, Number);
  }

  // Where the encoder passes of a text begin and end, in wordpieces: its sentences, or the text.
  #edges(text, pieces) {
    const total = pieces.length;
    if (this.info.context !== "sentences" || !total) return [0, total];
    const cuts = matches(this.info.sentence_end, text).map(([, end]) => {
      const cut = pieces.findIndex((piece) => piece.start >= end);
      return cut < 0 ? total : cut;
    });
    return [...new Set([0, ...cuts, total])].sort((a, b) => a - b);
  }
}

// White space of Python, which is not that of JavaScript.
const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const WORD = "[\\p{L}\\p{N}_]";
// What a sign of Python's `re` is in JavaScript, outside of a set of characters.
const SIGNS = {
  "\\s": `[${SPACE}]`,
  "\\S": `[^${SPACE}]`,
  "\\d": "\\p{Nd}",
  "\\Z": "(?![\\s\\S])",
  "\\b": `(?:(?<=${WORD})(?!${WORD})|(?<!${WORD})(?=${WORD}))`,
};

function setOfCharacters(set) {
  if (set === "[^\\W\\d_]") return "[\\p{L}\\p{Nl}\\p{No}]";
  // White space except for what follows.
  if (set.startsWith("[^\\S")) return `(?:(?![${set.slice(4)})[${SPACE}])`;
  return set.replaceAll("\\s", SPACE).replaceAll("\\d", "\\p{Nd}");
}

// A regular expression of Python's `re`, without flags, in JavaScript.
export function toRegExp(pattern) {
  const parts = /\[(?:\\.|[^\]\\])*\]|\\./gsu;
  const own = (part) => (part[0] === "[" ? setOfCharacters(part) : (SIGNS[part] ?? part));
  return new RegExp(pattern.replace(parts, own), "gu");
}

// Start and end of each match, in code points.
export function matches(pattern, text) {
  if (!pattern) return [];
  const places = [];
  let count = 0;
  for (const char of text) {
    for (let i = 0; i < char.length; i++) places.push(count);
    count++;
  }
  places.push(count);
  return Array.from(text.matchAll(toRegExp(pattern)), (found) => [
    places[found.index],
    places[found.index + found[0].length],
  ]);
}

const IS_SPACE = new RegExp(`^[${SPACE}]+$`, "u");
const INVISIBLE = new RegExp(`^([${SPACE}]+|\\p{Cf}*)$`, "u");

// Start and end of the tokens of spaCy for Chinese: characters; runs of white space.
export function split(text) {
  const chars = Array.from(text);
  return matches("\\S ?|\\s+", text).map(([start, end]) => [
    start,
    IS_SPACE.test(chars[start]) ? end : start + 1,
  ]);
}

// Whether each token continues the word of the token before it.
function continued(text, tokens, info) {
  const inner = new Set();
  for (const [start, end] of matches(info.whole_words, text)) {
    for (let i = start + 1; i < end; i++) inner.add(i);
  }
  return tokens.map(([start, end], i) => {
    const [a, b] = tokens[i - 1] ?? [0, 0];
    return inner.has(start) && b === start && start === a + 1 && start === end - 1;
  });
}

// First token, last + 1 and label of each entity, for BIO, BIOES, BMES and BILUO.
function spans(tags) {
  const found = [];
  let [begin, label] = [-1, ""];
  [...tags, "O"].forEach((tag, i) => {
    const [role, kind] = [tag[0], tag.slice(2)];
    if (begin >= 0 && !("IMEL".includes(role) && kind === label)) {
      found.push([begin, i, label]);
      begin = -1;
    }
    if (begin < 0 && role !== "O") [begin, label] = [i, kind];
    if ("ELSU".includes(role)) {
      found.push([begin, i + 1, label]);
      begin = -1;
    }
  });
  return found;
}

// Whether a token is white space, or only marks without width such as U+200B.
function invisible(chars, [start, end]) {
  return INVISIBLE.test(chars.slice(start, end).join(""));
}
