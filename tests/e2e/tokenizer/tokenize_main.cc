// tokenize_main DIR: reads JSON lines from standard input, writes one JSON line for each.
//
//   {"text": "...", "add_special": true}      ->  {"ids": [...]}
//   {"bytes": "fffe...", ...}                 ->  as above, the text in hexadecimal
//   {"ids": [...], "skip_special": true}      ->  {"text": "...", "streamed": "..."}
//
// The driver of compare.mjs, which knows what another tokenizer makes of the same lines.
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "service/tokenizer/tokenizer.h"

namespace {

std::string FromHex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

nlohmann::json Answer(const sluice::Tokenizer& tokenizer, const nlohmann::json& request) {
  if (request.contains("ids")) {
    const auto ids = request["ids"].get<std::vector<sluice::TokenId>>();
    const bool skip = request.value("skip_special", false);
    const auto stream = tokenizer.NewIncremental(skip);
    std::string streamed;
    for (const sluice::TokenId id : ids) streamed += stream->Push(id);
    streamed += stream->Finish();
    return {{"text", tokenizer.Decode(ids, skip)}, {"streamed", streamed}};
  }
  const std::string text = request.contains("bytes") ? FromHex(request["bytes"].get<std::string>())
                                                     : request["text"].get<std::string>();
  return {{"ids", tokenizer.Encode(text, request.value("add_special", false),
                                   request.value("parse_special", true))}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: tokenize_main MODEL_DIR < requests.jsonl\n");
    return 2;
  }
  const auto tokenizer = sluice::Tokenizer::Load(argv[1]);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", std::string(tokenizer.status().message()).c_str());
    return 1;
  }
  std::string line;
  while (std::getline(std::cin, line)) {
    std::cout << Answer(**tokenizer, nlohmann::json::parse(line)).dump() << "\n";
  }
  return 0;
}
