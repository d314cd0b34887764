#include "service/engine/token_stream.h"

#include <atomic>
#include <thread>

#include "gtest/gtest.h"

namespace sluice {
namespace {

Event Token(TokenId token) {
  Event event;
  event.token.emplace().token = token;
  return event;
}

Event Last() {
  Event event;
  event.finish.emplace();
  return event;
}

TEST(TokenStreamTest, GivesEventsInOrderAndOnlyOnce) {
  TokenStream stream(Tokens(8), [] {});
  EXPECT_TRUE(stream.TakeAll().empty());
  ASSERT_TRUE(stream.Push(Token(1)));
  ASSERT_TRUE(stream.Push(Token(2)));
  const std::vector<Event> events = stream.TakeAll();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].token->token, 1);
  EXPECT_EQ(events[1].token->token, 2);
  EXPECT_TRUE(stream.TakeAll().empty());
}

TEST(TokenStreamTest, RefusesTokensBeyondItsCapacityButNeverTheEnd) {
  TokenStream stream(Tokens(2), [] {});
  EXPECT_TRUE(stream.Push(Token(1)));
  EXPECT_TRUE(stream.Push(Token(2)));
  EXPECT_FALSE(stream.Push(Token(3)));
  EXPECT_TRUE(stream.Push(Last()));
  EXPECT_EQ(stream.TakeAll().size(), 3u);
}

TEST(TokenStreamTest, WhatIsNoTokenTakesNoneOfItsCapacity) {
  TokenStream stream(Tokens(1), [] {});
  EXPECT_TRUE(stream.Push(Event()));
  EXPECT_TRUE(stream.Push(Token(1)));
  EXPECT_FALSE(stream.Push(Token(2)));
  EXPECT_EQ(stream.TakeAll().size(), 2u);
  EXPECT_TRUE(stream.Push(Token(3)));
}

TEST(TokenStreamTest, CallsTheReaderWhenItTurnsNotEmpty) {
  int calls = 0;
  TokenStream stream(Tokens(8), [&] { ++calls; });
  stream.Push(Token(1));
  stream.Push(Token(2));
  EXPECT_EQ(calls, 1);
  stream.TakeAll();
  stream.Push(Token(3));
  EXPECT_EQ(calls, 2);
}

// A writer and a reader that only reads when it is called: nothing is lost, nothing comes twice.
TEST(TokenStreamTest, AReaderWokenByTheCallbackSeesEverything) {
  constexpr int kTokens = 20000;
  std::atomic<int> wakeups{0};
  TokenStream stream(Tokens(kTokens), [&] {
    wakeups.fetch_add(1);
    wakeups.notify_one();
  });
  std::thread writer([&] {
    for (int i = 0; i < kTokens; ++i) stream.Push(Token(i));
    stream.Push(Last());
  });
  int next = 0, seen = 0;
  bool finished = false;
  while (!finished) {
    wakeups.wait(seen);
    seen = wakeups.load();
    for (const Event& event : stream.TakeAll()) {
      if (event.token.has_value()) {
        EXPECT_EQ(event.token->token, next++);
      }
      finished = finished || event.finish.has_value();
    }
  }
  writer.join();
  EXPECT_EQ(next, kTokens);
}

}  // namespace
}  // namespace sluice
