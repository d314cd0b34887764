// The tokenizer of a model that has none: ids pass through, text does not exist.
#include "scheduler/base/check.h"
#include "service/tokenizer/tokenizer.h"

namespace sluice {
namespace {

class IdsOnlyTokenizer final : public Tokenizer {
 public:
  explicit IdsOnlyTokenizer(int32_t vocab_size) : vocab_size_(vocab_size) {}

  bool has_text() const override { return false; }
  std::vector<TokenId> Encode(std::string_view, bool, bool) const override { return {}; }
  std::string Decode(const std::vector<TokenId>&, bool) const override { return ""; }
  std::optional<std::string> TokenText(TokenId) const override { return std::nullopt; }
  std::optional<TokenId> TokenToId(std::string_view) const override { return std::nullopt; }
  bool IsSpecial(TokenId) const override { return false; }
  int32_t vocab_size() const override { return vocab_size_; }
  std::unique_ptr<Incremental> NewIncremental(bool) const override {
    return std::make_unique<Silence>();
  }

 private:
  class Silence final : public Incremental {
   public:
    std::string Push(TokenId) override { return ""; }
    std::string Finish() override { return ""; }
  };

  const int32_t vocab_size_;
};

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::IdsOnly(int32_t vocab_size) {
  SLUICE_CHECK(vocab_size > 0);
  return std::make_unique<IdsOnlyTokenizer>(vocab_size);
}

}  // namespace sluice
