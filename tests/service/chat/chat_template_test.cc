#include "service/chat/chat_template.h"

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

using ::sluice::testing::IsOk;
using ::sluice::testing::StatusIs;
using ::sluice::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<ChatMessage> Messages() {
  return {{"user", "Hi", std::nullopt}, {"assistant", "Ho", "bot"}, {"user", "Bye", std::nullopt}};
}

std::string RenderOrError(const ChatTemplate& chat, const ChatOptions& options = {}) {
  const absl::StatusOr<std::string> text = chat.Render(Messages(), options);
  return text.ok() ? *text : "ERROR " + std::string(text.status().message());
}

class ChatTemplateFiles : public ::testing::Test {
 protected:
  ChatTemplate Load() const { return ChatTemplate::Load(dir_.path()); }
  void WriteConfig(const nlohmann::json& config) const {
    dir_.Write("tokenizer_config.json", config.dump());
  }

  TempDir dir_;
};

TEST_F(ChatTemplateFiles, AModelWithoutATemplateGetsLinesOfRoleAndContent) {
  const ChatTemplate chat = Load();
  EXPECT_THAT(chat.status(), IsOk());
  EXPECT_EQ(chat.origin(), "fallback");
  EXPECT_TRUE(chat.needs_bos());
  EXPECT_EQ(RenderOrError(chat), "user: Hi\nassistant: Ho\nuser: Bye\nassistant:");
  ChatOptions options;
  options.add_generation_prompt = false;
  EXPECT_EQ(RenderOrError(chat, options), "user: Hi\nassistant: Ho\nuser: Bye\n");
}

TEST_F(ChatTemplateFiles, TheTemplateOfTheConfigSeesSpecialTokensInBothForms) {
  WriteConfig({{"bos_token", "<s>"},
               {"eos_token", {{"content", "</s>"}, {"lstrip", false}}},
               {"pad_token", nullptr},
               {"chat_template",
                "{{ bos_token }}{% for m in messages %}{{ m.role[0] }}:"
                "{{ m.content }}{{ m.name }}{{ eos_token }}{% endfor %}"
                "{{ tools is none }}{{ pad_token is defined }}"}});
  const ChatTemplate chat = Load();
  EXPECT_EQ(chat.origin(), "tokenizer_config.json");
  EXPECT_FALSE(chat.needs_bos());
  EXPECT_EQ(RenderOrError(chat), "<s>u:Hi</s>a:Hobot</s>u:Bye</s>TrueFalse");
}

TEST_F(ChatTemplateFiles, TheTemplateFileGoesBeforeTheConfig) {
  WriteConfig({{"bos_token", "<s>"}, {"chat_template", "config"}});
  dir_.Write("chat_template.jinja", "{{ bos_token }}file\n");
  EXPECT_EQ(RenderOrError(Load()), "<s>file");
}

TEST_F(ChatTemplateFiles, OfSeveralTemplatesTheDefaultIsTaken) {
  WriteConfig({{"chat_template",
                {{{"name", "tool_use"}, {"template", "tools"}},
                 {{"name", "default"}, {"template", "plain"}}}}});
  EXPECT_EQ(RenderOrError(Load()), "plain");
}

TEST_F(ChatTemplateFiles, VariablesOfTheClientHideNothing) {
  WriteConfig({{"bos_token", "<s>"},
               {"chat_template", "{{ bos_token }}{{ more }}{{ messages[0].content }}"}});
  const nlohmann::json variables = {{"bos_token", "x"}, {"more", 7}, {"messages", "y"}};
  ChatOptions options;
  options.variables = &variables;
  EXPECT_EQ(RenderOrError(Load(), options), "<s>7Hi");
}

TEST_F(ChatTemplateFiles, DatesComeFromTheCaller) {
  WriteConfig({{"chat_template", "{{ strftime_now('%Y') }}"}});
  ChatOptions options;
  options.now = absl::FromUnixSeconds(1'718'445'600);  // in June 2024, wherever this runs
  EXPECT_EQ(RenderOrError(Load(), options), "2024");
}

TEST_F(ChatTemplateFiles, AnUnusableTemplateIsReportedWithFileLineAndConstruct) {
  dir_.Write("chat_template.jinja", "a\n{% call x() %}{% endcall %}");
  const ChatTemplate chat = Load();
  const auto says = StatusIs(
      absl::StatusCode::kUnimplemented,
      "chat template (chat_template.jinja): line 2: the statement {% call %} is not supported");
  EXPECT_THAT(chat.status(), says);
  EXPECT_THAT(chat.Render(Messages(), {}), says);
}

TEST_F(ChatTemplateFiles, BadFilesAreReported) {
  dir_.Write("tokenizer_config.json", "[1]");
  EXPECT_THAT(Load().status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is not a JSON object")));
  WriteConfig({{"chat_template", 5}});
  EXPECT_THAT(Load().status(), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("neither a string nor a list")));
}

TEST_F(ChatTemplateFiles, WhatTheTemplateRefusesIsTheClientsError) {
  WriteConfig({{"chat_template", "\n{{ raise_exception('no assistant here') }}"}});
  EXPECT_THAT(Load().Render(Messages(), {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "chat template (tokenizer_config.json): line 2: no assistant here"));
}

}  // namespace
}  // namespace sluice
