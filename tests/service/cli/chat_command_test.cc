#include "service/cli/chat_command.h"

#include "gtest/gtest.h"

namespace sluice {
namespace {

TEST(ConversationTest, EveryPromptBeginsWithTheOneBefore) {
  Conversation talk("");
  EXPECT_EQ(talk.PromptFor("Hello"), "User: Hello\nAssistant:");
  talk.AddTurn("Hello", " Hi.");
  EXPECT_EQ(talk.PromptFor("More"), "User: Hello\nAssistant: Hi.\nUser: More\nAssistant:");
  EXPECT_EQ(talk.turns(), 1);
}

TEST(ConversationTest, ResetKeepsTheSystemText) {
  Conversation talk("Be brief.");
  talk.AddTurn("a", " b");
  talk.Reset();
  EXPECT_EQ(talk.PromptFor("c"), "Be brief.\n\nUser: c\nAssistant:");
  EXPECT_EQ(talk.turns(), 0);
}

}  // namespace
}  // namespace sluice
