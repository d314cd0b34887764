// ModelProfile from a Hugging Face config.json.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "scheduler/cost/model_profile.h"

namespace sluice {

// `text` is the file's content; `where` names it in messages. The profile's name is that of the
// directory in `where` ("/models/llama/config.json": "llama").
//
// Known families (model_type): llama, mistral, qwen2, qwen3, qwen3_moe, deepseek_v2, deepseek_v3,
// gpt_oss, gemma3_text, and gemma3 with its text_config. Fields that a family's published files
// leave out have the value the family's configuration class gives them (tie_word_embeddings,
// head_dim); everything else must be there. Vision towers and draft heads are not counted: text
// passes by them.
//
// Returns INVALID_ARGUMENT naming file, field, value and what is allowed; UNIMPLEMENTED for another
// family.
absl::StatusOr<ModelProfile> ModelFromConfigJson(const std::string& text, const std::string& where);

}  // namespace sluice
