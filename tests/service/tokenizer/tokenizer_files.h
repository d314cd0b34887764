// Small tokenizer.json documents for tests.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "service/tokenizer/byte_alphabet.h"
#include "service/tokenizer/tokenizer.h"

namespace sluice::testing {

using Json = nlohmann::json;

// The text of one byte in a byte-level vocabulary: " " is "Ġ".
inline std::string Shown(std::string_view bytes) {
  std::string text;
  AppendBytesAsText(bytes, &text);
  return text;
}

inline Json Added(TokenId id, const std::string& content, bool special) {
  return {{"id", id},        {"content", content}, {"special", special},  {"normalized", false},
          {"lstrip", false}, {"rstrip", false},    {"single_word", false}};
}

inline Json Template(const std::string& bos, TokenId id) {
  return {{"type", "TemplateProcessing"},
          {"single",
           {{{"SpecialToken", {{"id", bos}, {"type_id", 0}}}},
            {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
          {"special_tokens",
           {{bos, {{"id", bos}, {"ids", Json::array({id})}, {"tokens", Json::array({bos})}}}}}};
}

// GPT-2 style: 256 bytes (id = byte), `merges` from id 256 on, then <|bos|> (special) and <tool>.
inline Json ByteLevelFile(const std::vector<std::pair<std::string, std::string>>& merges) {
  Json vocab = Json::object();
  for (int b = 0; b < 256; ++b) vocab[Shown(std::string(1, static_cast<char>(b)))] = b;
  Json list = Json::array();
  TokenId next = 256;
  for (const auto& [left, right] : merges) {
    vocab[Shown(left + right)] = next++;
    list.push_back({Shown(left), Shown(right)});
  }
  const Json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  return {{"version", "1.0"},
          {"added_tokens", {Added(next, "<|bos|>", true), Added(next + 1, "<tool>", false)}},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", Template("<|bos|>", next)},
          {"decoder", byte_level},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", list}}}};
}

// Llama-2 style: <unk> 0, <s> 1, </s> 2, byte tokens 3 to 258, then the characters and merges.
inline Json SentencePieceFile() {
  Json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  const char* kHex = "0123456789ABCDEF";
  for (int b = 0; b < 256; ++b) {
    vocab[std::string("<0x") + kHex[b / 16] + kHex[b % 16] + ">"] = 3 + b;
  }
  TokenId next = 259;
  for (const char* text : {"▁", "a", "b", "c", "é", "ab", "▁a", "▁ab", "▁▁"}) vocab[text] = next++;
  const Json space = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}};
  const Json mark = {{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}};
  return {
      {"version", "1.0"},
      {"added_tokens", {Added(0, "<unk>", true), Added(1, "<s>", true), Added(2, "</s>", true)}},
      {"normalizer",
       {{"type", "Sequence"}, {"normalizers", {{{"type", "Prepend"}, {"prepend", "▁"}}, space}}}},
      {"pre_tokenizer", nullptr},
      {"post_processor", Template("<s>", 1)},
      {"decoder",
       {{"type", "Sequence"},
        {"decoders",
         {mark,
          {{"type", "ByteFallback"}},
          {{"type", "Fuse"}},
          {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}},
      {"model",
       {{"type", "BPE"},
        {"unk_token", "<unk>"},
        {"fuse_unk", true},
        {"byte_fallback", true},
        {"vocab", vocab},
        {"merges", {"a b", "▁ a", "▁ ab", "▁ ▁"}}}}};
}

inline std::unique_ptr<Tokenizer> Make(const Json& file) {
  auto tokenizer = Tokenizer::FromJson(file.dump(), "test.json");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

}  // namespace sluice::testing
