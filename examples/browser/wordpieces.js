// Wordpieces of BERT with the place of each in the text, from the tokenizer.json of an export.
// Offsets count code points, as in Python. It does not look for special tokens in the text.

const CHINESE = [
  [0x4e00, 0x9fff], [0x3400, 0x4dbf], [0x20000, 0x2a6df], [0x2a700, 0x2b73f], [0x2b740, 0x2b81f],
  [0x2b920, 0x2ceaf], [0xf900, 0xfaff], [0x2f800, 0x2fa1f],
];
const SPACE = /^\p{White_Space}$/u;
const DROPPED = /^(?![\t\n\r])[\u0000\ufffd\p{Cc}\p{Cf}\p{Cn}\p{Co}]$/u;
const MARK = /^\p{Mn}$/u;
const PUNCTUATION = /^[!-/:-@[-`{-~\p{P}]$/u;

const isChinese = (char) => {
  const code = char.codePointAt(0);
  return CHINESE.some(([first, last]) => first <= code && code <= last);
};

export class WordPieces {
  // tokenizer: the content of tokenizer.json. Throws an Error if it is not a tokenizer of BERT.
  constructor(tokenizer) {
    const { model, normalizer, pre_tokenizer: parts, post_processor: post } = tokenizer;
    if (model.type !== "WordPiece" || normalizer?.type !== "BertNormalizer" ||
        parts?.type !== "BertPreTokenizer") {
      throw new Error("this example reads tokenizers of BERT (WordPiece) only");
    }
    this.vocab = new Map(Object.entries(model.vocab));
    this.unknown = this.vocab.get(model.unk_token);
    this.prefix = model.continuing_subword_prefix;
    this.longest = model.max_input_chars_per_word;
    this.rules = normalizer;
    this.stripsAccents = normalizer.strip_accents ?? normalizer.lowercase;
    [this.before, this.after] = specialIds(post, this.vocab);
  }

  // The wordpieces of a text: [{id, start, end}], without special tokens.
  read(text) {
    const pieces = [];
    let word = [];
    const close = () => {
      if (word.length) pieces.push(...this.#pieces(word));
      word = [];
    };
    Array.from(text).forEach((char, at) => {
      for (const kept of this.#normalized(char)) {
        const alone = PUNCTUATION.test(kept) || (this.rules.handle_chinese_chars && isChinese(char));
        if (kept === " " || alone) close();
        if (kept !== " ") word.push([kept, at]);
        if (alone) close();
      }
    });
    close();
    return pieces;
  }

  // The characters that a character becomes; white space becomes " ".
  #normalized(char) {
    if (this.rules.clean_text && DROPPED.test(char)) return [];
    if (SPACE.test(char)) return [" "];
    let found = [char];
    if (this.stripsAccents) {
      found = Array.from(char.normalize("NFD")).filter((one) => !MARK.test(one));
    }
    return this.rules.lowercase ? found.flatMap((one) => Array.from(one.toLowerCase())) : found;
  }

  // The longest wordpieces of a word, from its begin; one unknown piece if there are none.
  #pieces(word) {
    const whole = { id: this.unknown, start: word[0][1], end: word.at(-1)[1] + 1 };
    if (word.length > this.longest) return [whole];
    const found = [];
    for (let begin = 0; begin < word.length; ) {
      let end = word.length;
      let id;
      for (; end > begin; end--) {
        const text = word.slice(begin, end).map(([char]) => char).join("");
        id = this.vocab.get((begin ? this.prefix : "") + text);
        if (id !== undefined) break;
      }
      if (id === undefined) return [whole];
      found.push({ id, start: word[begin][1], end: word[end - 1][1] + 1 });
      begin = end;
    }
    return found;
  }
}

// Ids of the special tokens before and after the wordpieces of a text.
function specialIds(post, vocab) {
  if (post?.type === "BertProcessing") return [[post.cls[1]], [post.sep[1]]];
  const parts = post?.single ?? [];
  const at = parts.findIndex((part) => part.Sequence);
  const ids = (some) => some.flatMap((part) => post.special_tokens[part.SpecialToken.id].ids);
  return at < 0 ? [[], []] : [ids(parts.slice(0, at)), ids(parts.slice(at + 1))];
}
