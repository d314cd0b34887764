// Tokenizer: text to token ids and back, from a Hugging Face tokenizer.json.
//
// Supported: BPE models, byte-level (GPT-2, Llama-3, Qwen) and SentencePiece-style with byte
// fallback (Llama-2, Mistral), with their normalizers, pre-tokenizers, added tokens, template
// post-processor and decoders. Anything else is UNIMPLEMENTED; the message names the component.
//
// Thread-safe after construction.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "scheduler/base/units.h"

namespace sluice {

class Tokenizer {
 public:
  // Reads `dir`/tokenizer.json. Returns NOT_FOUND, INVALID_ARGUMENT or UNIMPLEMENTED naming file
  // and field.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& dir);
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(const std::string& json,
                                                             const std::string& where);
  // For a model without tokenizer.json: has_text() is false, every text is empty.
  static std::unique_ptr<Tokenizer> IdsOnly(int32_t vocab_size);
  virtual ~Tokenizer() = default;

  // False: this model only takes and gives token ids.
  virtual bool has_text() const { return true; }

  // Encodes `text`. `add_special`: apply the post-processor (BOS and so on). Special tokens written
  // out in the text ("<|eos|>") are recognised only if `parse_special`.
  // Invalid UTF-8 is replaced by U+FFFD, as the original does. Cost: O(n log n) in the text.
  virtual std::vector<TokenId> Encode(std::string_view text, bool add_special,
                                      bool parse_special) const = 0;

  // Decodes whole sequences. Unknown ids give nothing. Always valid UTF-8.
  virtual std::string Decode(const std::vector<TokenId>& ids, bool skip_special) const = 0;

  // The token as its vocabulary entry ("Ġthe"), or nothing if there is no such id.
  virtual std::optional<std::string> TokenText(TokenId id) const = 0;
  virtual std::optional<TokenId> TokenToId(std::string_view text) const = 0;
  virtual bool IsSpecial(TokenId id) const = 0;

  // One past the highest id.
  virtual int32_t vocab_size() const = 0;

  // Feeds ids one at a time and returns the text that has become certain: never half a UTF-8
  // character, and the concatenation of all Push() results and Finish() equals Decode() of all ids.
  class Incremental {
   public:
    virtual ~Incremental() = default;
    virtual std::string Push(TokenId id) = 0;
    virtual std::string Finish() = 0;  // what was held back; incomplete bytes become U+FFFD
  };
  virtual std::unique_ptr<Incremental> NewIncremental(bool skip_special) const = 0;
};

}  // namespace sluice
