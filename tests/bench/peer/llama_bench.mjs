// Times llama.cpp (through node-llama-cpp) on a GGUF file: prefill and greedy decode.
//
// usage: node llama_bench.mjs MODEL.gguf THREADS BATCH PROMPT_TOKENS OUTPUT_TOKENS [REPEATS]
// Prints one JSON object: medians over the repeats, in tokens per second.
import {getLlama, LlamaLogLevel} from "node-llama-cpp";

const [path, ...numbers] = process.argv.slice(2);
const [threads, batch, promptTokens, outputTokens, repeats = 3] = numbers.map(Number);

const seconds = () => Number(process.hrtime.bigint()) / 1e9;
const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

// Any ids but the special ones; the same every time.
function prompt(sequence) {
  let state = 1234567 + sequence;
  return Array.from({length: promptTokens}, () => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return 3 + (state % 8000);
  });
}

const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error,
                              maxThreads: threads});
const model = await llama.loadModel({modelPath: path, gpuLayers: 0, useMmap: true});
const context = await model.createContext({
  contextSize: promptTokens + outputTokens + 8, sequences: batch, threads,
  batchSize: Math.max(512, batch),
});
const sequences = Array.from({length: batch}, () => context.getSequence());

async function decode(sequence, first) {
  let count = 0;
  for await (const token of sequence.evaluate([first], {temperature: 0, yieldEogToken: true})) {
    if (++count === outputTokens || token === undefined) break;
  }
  return count;
}

const prefill = [], decoded = [];
for (let run = 0; run < repeats; ++run) {
  await Promise.all(sequences.map((s) => s.clearHistory()));
  let begin = seconds();
  await Promise.all(sequences.map((s, i) => s.evaluateWithoutGeneratingNewTokens(prompt(i))));
  prefill.push(batch * promptTokens / (seconds() - begin));
  begin = seconds();
  const counts = await Promise.all(sequences.map((s) => decode(s, 5)));
  decoded.push(counts.reduce((a, b) => a + b, 0) / (seconds() - begin));
}
console.log(JSON.stringify({
  engine: "llama.cpp (node-llama-cpp)", file: path.split("/").pop(), threads, batch,
  prompt_tokens: promptTokens, output_tokens: outputTokens,
  prefill_tokens_per_s: median(prefill), decode_tokens_per_s: median(decoded),
}));
process.exit(0);
