#include "service/cli/demo_workload.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

struct Question {
  const char* shown;
  const char* text;  // follows the document
  bool is_question;  // answered by the assistant; else the text itself goes on
};

constexpr std::array<Question, 3> kQuestions = {{
    {"go on", "\n\n", false},
    {"next morning", "\n\nThe next morning", false},
    {"which book?", "\n\nWhich book is this from?", true},
}};

bool HasChatTokens(const Tokenizer& tokenizer) {
  for (const char* token : {"<|user|>", "<|end|>", "<|assistant|>"}) {
    if (!tokenizer.TokenToId(token).has_value()) return false;
  }
  return true;
}

std::string PromptText(const DemoDocument& document, const Question& question, bool chat) {
  std::string text = absl::StrCat(chat ? "<|user|>" : "", document.text, question.text);
  if (question.is_question) absl::StrAppend(&text, chat ? "<|end|><|assistant|>" : "\n\nAnswer:");
  return text;
}

}  // namespace

absl::StatusOr<std::vector<DemoDocument>> LoadDocuments(const std::string& dir) {
  std::vector<DemoDocument> documents;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
    if (entry.path().extension() != ".txt") continue;
    std::ifstream file(entry.path(), std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    std::string body = text.str();
    body.erase(body.find_last_not_of(" \r\n") + 1);
    if (!body.empty()) documents.push_back({entry.path().stem().string(), std::move(body)});
  }
  if (documents.empty()) {
    return absl::NotFoundError(
        absl::StrCat("--docs: ", dir, ": has no .txt files; name a directory of text documents"));
  }
  std::sort(documents.begin(), documents.end(),
            [](const DemoDocument& a, const DemoDocument& b) { return a.name < b.name; });
  return documents;
}

DemoPlan PlanDemo(const std::vector<DemoDocument>& documents, const Tokenizer& tokenizer,
                  Tokens output_tokens) {
  const bool chat = HasChatTokens(tokenizer);
  DemoPlan plan;
  int session = 0;
  for (const Question& question : kQuestions) {
    for (const DemoDocument& document : documents) {
      DemoRequest request;
      request.session = ++session;
      request.document = document.name;
      request.question = question.shown;
      request.prompt = tokenizer.Encode(PromptText(document, question, chat), /*add_special=*/true,
                                        /*parse_special=*/chat);
      const Tokens length = Tokens(static_cast<int64_t>(request.prompt.size()));
      plan.longest_request = std::max(plan.longest_request, length + output_tokens);
      if (&question == &kQuestions.front()) plan.document_tokens += length;
      plan.requests.push_back(std::move(request));
    }
  }
  return plan;
}

}  // namespace sluice
