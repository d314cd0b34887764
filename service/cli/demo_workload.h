// The demo's workload: long documents, several questions about each, asked by different sessions so
// that a document's KV has left the device when it is asked about again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/base/units.h"
#include "service/tokenizer/tokenizer.h"

namespace sluice {

struct DemoDocument {
  std::string name;  // file name without ".txt"
  std::string text;
};

struct DemoRequest {
  int session = 0;
  std::string document;  // name
  std::string question;  // as shown
  std::vector<TokenId> prompt;
};

struct DemoPlan {
  std::vector<DemoRequest> requests;  // in order: all documents in turn, then again
  Tokens document_tokens;             // of all documents together
  Tokens longest_request;             // prompt and output
};

// All *.txt files of `dir`, by name.
// Returns NOT_FOUND if there are none, with what to do.
absl::StatusOr<std::vector<DemoDocument>> LoadDocuments(const std::string& dir);

// Every question about every document. Prompts begin with the whole document, so questions about
// one document share it as a prefix. If the tokenizer knows <|user|>, <|end|> and <|assistant|>,
// the document stands in a user message (as the demo model was trained); else the prompt is plain
// text.
DemoPlan PlanDemo(const std::vector<DemoDocument>& documents, const Tokenizer& tokenizer,
                  Tokens output_tokens);

}  // namespace sluice
