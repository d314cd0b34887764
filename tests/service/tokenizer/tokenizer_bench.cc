// tokenizer_bench MODEL_DIR TEXT_FILE [benchmark flags]: MB/s on one thread.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include "service/tokenizer/tokenizer.h"

namespace {

using sluice::Tokenizer;

void Encode(benchmark::State& state, const Tokenizer* tokenizer, const std::string* text) {
  size_t tokens = 0;
  for (auto _ : state) tokens = tokenizer->Encode(*text, false, true).size();
  state.SetBytesProcessed(static_cast<int64_t>(text->size() * state.iterations()));
  state.counters["bytes_per_token"] =
      static_cast<double>(text->size()) / static_cast<double>(tokens);
}

void Decode(benchmark::State& state, const Tokenizer* tokenizer, const std::string* text) {
  const auto ids = tokenizer->Encode(*text, false, true);
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->Decode(ids, true));
  state.SetItemsProcessed(static_cast<int64_t>(ids.size() * state.iterations()));
}

void Stream(benchmark::State& state, const Tokenizer* tokenizer, const std::string* text) {
  const auto ids = tokenizer->Encode(*text, false, true);
  for (auto _ : state) {
    const auto stream = tokenizer->NewIncremental(true);
    for (const sluice::TokenId id : ids) benchmark::DoNotOptimize(stream->Push(id));
    benchmark::DoNotOptimize(stream->Finish());
  }
  state.SetItemsProcessed(static_cast<int64_t>(ids.size() * state.iterations()));
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc != 3) {
    std::fprintf(stderr, "usage: tokenizer_bench MODEL_DIR TEXT_FILE [benchmark flags]\n");
    return 2;
  }
  const auto tokenizer = Tokenizer::Load(argv[1]);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().ToString().c_str());
    return 1;
  }
  std::ostringstream content;
  content << std::ifstream(argv[2], std::ios::binary).rdbuf();
  const std::string text = content.str();
  benchmark::RegisterBenchmark("Encode", Encode, tokenizer->get(), &text);
  benchmark::RegisterBenchmark("Decode", Decode, tokenizer->get(), &text);
  benchmark::RegisterBenchmark("Stream", Stream, tokenizer->get(), &text);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
