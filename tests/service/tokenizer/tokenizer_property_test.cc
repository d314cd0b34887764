// Random texts, ids and files against what must hold for all of them.
#include <algorithm>
#include <random>

#include "gtest/gtest.h"
#include "service/tokenizer/bpe.h"
#include "service/tokenizer/tokenizer.h"
#include "service/tokenizer/utf8.h"
#include "tests/service/tokenizer/tokenizer_files.h"

namespace sluice {
namespace {

using testing::ByteLevelFile;
using testing::Json;
using testing::Make;
using testing::SentencePieceFile;

class Rng {
 public:
  explicit Rng(uint32_t seed) : engine_(seed) {}
  size_t Below(size_t n) { return engine_() % n; }
  bool Coin() { return Below(2) == 0; }

 private:
  std::mt19937 engine_;
};

std::string RandomUtf8(Rng* rng, size_t max_length) {
  std::string text;
  for (size_t n = rng->Below(max_length + 1); n > 0; --n) {
    char32_t c = 0;
    switch (rng->Below(5)) {
      case 0:
        c = static_cast<char32_t>(rng->Below(0x80));
        break;
      case 1:
        c = static_cast<char32_t>(rng->Below(0x800));
        break;
      case 2:
        c = U"ab chelow \n'<>"[rng->Below(14)];
        break;
      case 3:
        c = static_cast<char32_t>(0xE000 + rng->Below(0x110000 - 0xE000));
        break;
      default:
        c = static_cast<char32_t>(rng->Below(0xD800));
    }
    AppendUtf8(c, &text);
    if (rng->Below(12) == 0) text += rng->Coin() ? "<|bos|>" : "<tool>";
  }
  return text;
}

std::string RandomBytes(Rng* rng, size_t max_length) {
  std::string text;
  for (size_t n = rng->Below(max_length + 1); n > 0; --n) {
    text.push_back(static_cast<char>(rng->Coin() ? rng->Below(256) : 0x80 + rng->Below(0x80)));
  }
  return text;
}

Json ByteLevel() {
  return ByteLevelFile({{"h", "e"},
                        {"l", "l"},
                        {" ", "w"},
                        {"e", "l"},
                        {"\xC3", "\xA9"},
                        {" ", " "},
                        {"a", "b"},
                        {"ab", "ab"},
                        {"\xE2", "\x82"}});
}

// Decoders and joins of every kind, to be put on a vocabulary.
std::vector<Json> Files() {
  std::vector<Json> files = {ByteLevel(), SentencePieceFile()};
  Json strip = SentencePieceFile();
  strip["decoder"]["decoders"][3] = {
      {"type", "Strip"}, {"content", " "}, {"start", 2}, {"stop", 2}};
  Json metaspace = SentencePieceFile();
  metaspace["decoder"] = {{"type", "Metaspace"}, {"replacement", "▁"}};
  Json none = SentencePieceFile();
  none["decoder"] = nullptr;
  Json bytes_strip = ByteLevel();
  bytes_strip["decoder"] = {{"type", "Sequence"},
                            {"decoders",
                             {{{"type", "ByteLevel"}},
                              {{"type", "Strip"}, {"content", "a"}, {"start", 1}, {"stop", 3}}}}};
  for (Json* file : {&strip, &metaspace, &none, &bytes_strip}) files.push_back(std::move(*file));
  return files;
}

TEST(TokenizerProperty, DecodeOfEncodeIsTheTextAtByteLevel) {
  const auto t = Make(ByteLevel());
  for (uint32_t seed = 1; seed <= 2000; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    const std::string text = RandomUtf8(&rng, 40);
    for (const bool parse_special : {false, true}) {
      ASSERT_EQ(t->Decode(t->Encode(text, false, parse_special), false), text);
    }
  }
}

TEST(TokenizerProperty, RandomBytesEncodeLikeTheirReplacedText) {
  for (const Json& file : Files()) {
    const auto t = Make(file);
    for (uint32_t seed = 1; seed <= 500; ++seed) {
      SCOPED_TRACE(seed);
      Rng rng(seed);
      const std::string bytes = RandomBytes(&rng, 40);
      const std::vector<TokenId> ids = t->Encode(bytes, true, true);
      ASSERT_EQ(ids, t->Encode(ReplaceInvalidUtf8(bytes), true, true));
      for (const TokenId id : ids) ASSERT_TRUE(id >= 0 && id < t->vocab_size());
    }
  }
}

TEST(TokenizerProperty, IncrementalEqualsWholeForAllIdSequences) {
  for (const Json& file : Files()) {
    const auto t = Make(file);
    for (uint32_t seed = 1; seed <= 2000; ++seed) {
      SCOPED_TRACE(seed);
      Rng rng(seed);
      const bool skip_special = rng.Coin();
      const auto stream = t->NewIncremental(skip_special);
      std::vector<TokenId> ids;
      std::string streamed;
      for (size_t n = rng.Below(16); n > 0; --n) {
        // Every id, some unknown ones, and often a byte of a longer character.
        ids.push_back(static_cast<TokenId>(rng.Coin()
                                               ? rng.Below(static_cast<size_t>(t->vocab_size()) + 4)
                                               : 0xC0 + rng.Below(0x40)));
        const std::string part = stream->Push(ids.back());
        ASSERT_TRUE(IsValidUtf8(part));
        streamed += part;
        ASSERT_EQ(t->Decode(ids, skip_special).compare(0, streamed.size(), streamed), 0)
            << "text was returned that a later token changed";
      }
      streamed += stream->Finish();
      ASSERT_EQ(streamed, t->Decode(ids, skip_special));
      ASSERT_TRUE(IsValidUtf8(streamed));
    }
  }
}

// The definition, without any data structure.
std::vector<TokenId> EncodeByDefinition(const Json& model, std::string_view text) {
  std::vector<std::string> parts;
  for (const char c : text) parts.emplace_back(1, c);
  while (true) {
    size_t best_rank = model["merges"].size();
    size_t best = 0;
    for (size_t rank = 0; rank < best_rank; ++rank) {
      for (size_t i = 0; i + 1 < parts.size(); ++i) {
        if (model["merges"][rank][0] != parts[i] || model["merges"][rank][1] != parts[i + 1])
          continue;
        best_rank = rank;
        best = i;
        break;
      }
    }
    if (best_rank == model["merges"].size()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
  std::vector<TokenId> ids;
  for (const std::string& part : parts) ids.push_back(model["vocab"][part].get<TokenId>());
  return ids;
}

// Merges in random order, so that some can never apply and some entries are never built.
Json RandomModel(Rng* rng) {
  std::vector<std::string> entries = {"a", "b", "c"};
  Json merges = Json::array();
  for (int i = 0; i < 14; ++i) {
    const std::string left = entries[rng->Below(entries.size())];
    const std::string right = entries[rng->Below(entries.size())];
    const bool seen = std::any_of(merges.begin(), merges.end(),
                                  [&](const Json& m) { return m[0] == left && m[1] == right; });
    if (seen) continue;
    merges.insert(merges.begin() + static_cast<ptrdiff_t>(rng->Below(merges.size() + 1)),
                  Json::array({left, right}));
    if (std::find(entries.begin(), entries.end(), left + right) == entries.end()) {
      entries.push_back(left + right);
    }
  }
  Json vocab = Json::object();
  for (size_t i = 0; i < entries.size(); ++i) vocab[entries[i]] = i;
  return {{"vocab", vocab}, {"merges", merges}};
}

TEST(TokenizerProperty, EncodingFollowsTheDefinitionForShortAndLongPieces) {
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    const Json model = RandomModel(&rng);
    const auto bpe = Bpe::Parse(JsonNode(model, "t.json"), /*byte_level=*/false);
    ASSERT_TRUE(bpe.ok()) << bpe.status();
    for (const size_t longest : {4, 12, 31, 33, 120}) {
      std::string text;
      for (size_t n = rng.Below(longest) + 1; n > 0; --n) text.push_back("abc"[rng.Below(3)]);
      std::vector<TokenId> ids;
      (*bpe)->Encode(text, &ids);
      ASSERT_EQ(ids, EncodeByDefinition(model, text)) << text;
    }
  }
}

// A change of the text of a file: a byte, a piece cut out, a piece doubled.
std::string MutateText(std::string text, Rng* rng) {
  const size_t at = rng->Below(text.size());
  const size_t length = rng->Below(20);
  switch (rng->Below(4)) {
    case 0:
      text[at] = static_cast<char>(rng->Below(256));
      break;
    case 1:
      text.erase(at, length);
      break;
    case 2:
      text.insert(at, text.substr(rng->Below(text.size()), length));
      break;
    default:
      text[at] = "{}[]\",:0-9tfn\\"[rng->Below(14)];
  }
  return text;
}

// A change that leaves JSON valid: some value becomes another.
void MutateValue(Json* value, Rng* rng) {
  if (value->is_structured() && !value->empty() && rng->Below(5) != 0) {
    auto it = value->begin();
    std::advance(it, static_cast<ptrdiff_t>(rng->Below(value->size())));
    return MutateValue(&*it, rng);
  }
  const Json others[] = {nullptr,
                         true,
                         -1,
                         0,
                         1LL << 50,
                         1e300,
                         "",
                         "Sequence",
                         "ByteLevel",
                         "Metaspace",
                         "▁",
                         "a*",
                         "(",
                         Json::array(),
                         Json::object(),
                         Json::array({Json::object()}),
                         {{"type", "Split"}},
                         {{"Regex", "[a-z]*"}}};
  *value = others[rng->Below(std::size(others))];
}

// Whether the file was accepted.
bool UseIfValid(const std::string& json) {
  const auto t = Tokenizer::FromJson(json, "fuzz");
  if (!t.ok()) {
    EXPECT_TRUE(absl::IsInvalidArgument(t.status()) || absl::IsUnimplemented(t.status()))
        << t.status();
    return false;
  }
  const std::vector<TokenId> ids = (*t)->Encode("hello  w<|bos|>é\n \xFF<tool>", true, true);
  const auto stream = (*t)->NewIncremental(false);
  std::string streamed;
  for (const TokenId id : ids) streamed += stream->Push(id);
  streamed += stream->Finish();
  EXPECT_EQ(streamed, (*t)->Decode(ids, false));
  return true;
}

TEST(TokenizerProperty, MutatedFilesAreRefusedOrWorkButNeverCrash) {
  const std::vector<Json> files = Files();
  int accepted = 0;
  for (uint32_t seed = 1; seed <= 600; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    std::string text = files[rng.Below(files.size())].dump();
    for (size_t n = rng.Below(3); n < 3; ++n) text = MutateText(text, &rng);
    accepted += UseIfValid(text) ? 1 : 0;
  }
  for (uint32_t seed = 1; seed <= 600; ++seed) {
    SCOPED_TRACE(seed);
    Rng rng(seed);
    Json file = files[rng.Below(files.size())];
    for (size_t n = rng.Below(3); n < 3; ++n) MutateValue(&file, &rng);
    accepted += UseIfValid(file.dump()) ? 1 : 0;
  }
  EXPECT_GT(accepted, 60);  // both ways out are exercised
  EXPECT_LT(accepted, 1140);
}

}  // namespace
}  // namespace sluice
