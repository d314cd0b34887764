// Texts that tokenizers get wrong: hand-picked ones, and random ones from a fixed seed.

const emoji = ['👍', '👍🏽', '👨‍👩‍👧‍👦', '🏳️‍🌈', '🇩🇪🇫🇷', '❤️', '☝🏿', '👩🏾‍🚀', '🧑‍🤝‍🧑', '1️⃣', '™️'];

const handPicked = [
  '', ' ', '  ', '   ', '\n', '\n\n', '\r\n', '\r\n\r\n', '\t', ' \n', '\n ', ' \n \n ', '\t\t x', 'a', ' a', 'a ',
  'Hello, world!', 'Hello  world', 'Hello   world   ', '   leading', 'trailing   ', 'a\n\n\nb', 'a \n b', 'a\r\nb\r\n',
  "I'm you're he's we'll they'd I've can't", "I'M YOU'RE HE'S WE'LL THEY'D I'VE CAN'T", "'s 't 're 've 'm 'll 'd",
  "it'ſ", "'ſ'S'K", "''''s", "don''t", 'x’s it’s', '0', '12', '123', '1234', '12345678901234567890', '3.14159', '1,000,000.00',
  'v1.2.3-rc4', '٠١٢٣٤', '१२३', '①②③', 'ⅣⅫ', '½¾', 'x²+y²', '1e-9', '0xDEADBEEF', '2024-02-29T23:59:60Z',
  'naïve café résumé', 'nai\u0308ve cafe\u0301', 'A\u030a Å Å', 'ﬁ ﬂ ﬃ', 'ﷺ', 'e' + '\u0301'.repeat(40), '\u0301x', 'q\u0323\u0307 q\u0307\u0323',
  'Zͤ̀a̓̔l̽g͗o̚ text', '각 각 각', '한국어 텍스트입니다.', '日本語のテキスト、カタカナ。', '中文文本,没有空格。全角　空格',
  'العربية من اليمين إلى اليسار', 'مَرْحَبًا', 'שלום עולם', 'שָׁלוֹם', 'हिन्दी में पाठ', 'ภาษาไทยไม่มีช่องว่าง', 'Ελληνικά ς σ Σ', 'Привет, мир!', 'Ünïcödé İstanbul ıI',
  'ዩኒኮድ', 'ꙮ', '𝔘𝔫𝔦𝔠𝔬𝔡𝔢', '𓀀𓁐', '\u{20000}\u{2A6D6}', ...emoji, emoji.join(''), emoji.join(' '), 'ok👍ok', '👍\n👍',
  '\u00a0', 'a\u00a0b', '\u200b', 'a\u200bb', '\u200d', '\u2028\u2029', '\u3000', '\u180e', 'a\u180eb', '\u0085', 'a\u0085b', '\ufeff', '\ufeffBOM', '\u00ad',
  '\u0000', 'a\u0000b', '\u0001\u0002\u001f\u007f', '\ufffd', '\uffff', '\u{10ffff}', '\ue000',
  '▁', '▁a', 'a▁b', ' ▁ ', '▁▁▁', 'Ġ', 'Ċ', 'ĠĊ', '<0x0A>', '<0x41><0x42>', '<unk>', '<s>', '</s>', ' <s> ', 'a<s>b', '<s><s>', '< s >',
  '<|bos|>', '<|user|>hi<|end|>', '<|user|', '<|user|><', '<<|user|>>', '<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>',
  '<|im_start|>user\nHi<|im_end|>\n', '<think>\n\n</think>\n\n', '<tool_call>{"a": 1}</tool_call>', '<|endoftext|>', '  <think>  ', 'a <ls> b', 'a  <rs>  b', 'x<sw>y x <sw> y <sw>', '<nrm> <NRM>',
  'for (int i = 0; i < n; ++i) { a[i] += b[i] * 2.0f; }', 'def f(x):\n    return x ** 2\n\n\nprint(f(3))\n', '#include <stdio.h>\nint main() {\n\treturn 0;\n}\n',
  'SELECT * FROM "t" WHERE a=\'b\' -- c', '{"k": [1, 2.5, null, true], "s": "\\u00e9\\n"}', 'https://example.com/a?b=c&d=%20#e', 'a@b.co', '<html><body class="x">&amp;</body></html>',
  '!!!???...', '---===+++', '/* */ // ##', '((((()))))', '\\\\n', '"quoted" \'single\' “curly” ‘q’ «g»', '…—–-', '$100 €5 £3 ¥9 ₿1', '100%', '#hashtag @mention',
  'CamelCaseWords snake_case_words kebab-case-words SCREAMING_CASE', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'ab'.repeat(200), ' '.repeat(100), '\n'.repeat(50), ' \n'.repeat(30), '\t'.repeat(17) + 'x',
  '=' .repeat(81), '-'.repeat(300), '0'.repeat(100), 'ha'.repeat(77) + '!', 'antidisestablishmentarianism', 'Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft',
  'the quick brown fox jumps over the lazy dog. '.repeat(20), '日本語'.repeat(50), '👍'.repeat(30), '\u0301'.repeat(30), '\u0301\u0323'.repeat(20),
];

// Byte strings that are not UTF-8; what a decoder makes of them is U+FFFD for each maximal part.
const garbage = [
  'ff', '80', 'c3', 'c328', 'e282', 'e28261', 'f09f98', 'f09f9861', 'eda080', 'c0af', 'f4908080', 'f8888880', '61ff62', 'c3a9c3', 'e282ace282', '20ff20', 'fefeffff', 'c2c2c2', 'e0a0', 'e09f80',
  '00ff00', 'f09f988080', '8080808080', '61e2', 'e261', 'f0e2c3',
];

// A small generator with a fixed sequence (xorshift32).
export function random(seed) {
  let x = seed >>> 0 || 1;
  const next = () => ((x ^= x << 13), (x >>>= 0), (x ^= x >>> 17), (x ^= x << 5), (x >>>= 0), x);
  return { below: (n) => next() % n, pick: (list) => list[next() % list.length] };
}

const ranges = [
  [0x20, 0x7e], [0x20, 0x7e], [0x20, 0x7e], [0xa0, 0x24f], [0x300, 0x36f], [0x370, 0x3ff], [0x400, 0x4ff], [0x590, 0x5f4], [0x600, 0x6ff], [0x900, 0x97f],
  [0xe00, 0xe5b], [0x1100, 0x11ff], [0x1e00, 0x1eff], [0x2000, 0x206f], [0x2070, 0x20bf], [0x2100, 0x23ff], [0x2460, 0x27bf], [0x3000, 0x30ff], [0x4e00, 0x9fff],
  [0xac00, 0xd7a3], [0xe000, 0xe0ff], [0xf900, 0xfa6d], [0xfb00, 0xfb06], [0xfe00, 0xfe0f], [0xff00, 0xffef], [0x1d400, 0x1d7ff], [0x1f300, 0x1faf6], [0x20000, 0x2a6df],
];
const glue = [' ', ' ', ' ', '  ', '   ', '\n', '\n\n', '\t', '\r\n', '', '', "'s", "'LL", '.', ', ', '!', '...', '1', '42', '1234', '<s>', '<|im_start|>', '<|end|>', '▁', '\u00a0', '\u200d', '\u0301', '<ls>', '<rs>', '<sw>', '<nrm>'];
const words = ['the', 'The', 'THE', 'of', 'and', 'running', 'Internationalization', 'café', 'x', 'i', 'Straße', 'Москва', '東京', 'مرحبا', 'int', 'return', '__init__', 'naïve', ...emoji];

function randomText(rng) {
  let text = '';
  for (let n = rng.below(14); n >= 0; --n) {
    if (rng.below(2) === 0) {
      text += rng.pick(words);
    } else {
      const [low, high] = rng.pick(ranges);
      for (let k = rng.below(6); k >= 0; --k) text += String.fromCodePoint(low + rng.below(high - low + 1));
    }
    text += rng.pick(glue);
  }
  return text;
}

// Returns [{text, bytes?}]: what the reference sees, and the bytes if they are not its UTF-8.
export function corpus(seed, randomCount) {
  const rng = random(seed);
  const cases = handPicked.map((text) => ({ text }));
  const hex = [...garbage];
  for (let i = 0; i < 60; ++i) {
    let bytes = '';
    for (let n = 1 + rng.below(24); n > 0; --n) bytes += rng.pick([0x61, 0x20, 0x80 + rng.below(64), 0xc0 + rng.below(64), rng.below(256)]).toString(16).padStart(2, '0');
    hex.push(bytes);
  }
  for (const bytes of hex) cases.push({ text: Buffer.from(bytes, 'hex').toString('utf8'), bytes });
  for (let i = 0; i < randomCount; ++i) cases.push({ text: randomText(rng) });
  return cases;
}
