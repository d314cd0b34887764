// The OpenAI-compatible API through real sockets, around the real scheduler and engine.
#include "service/http/openai_api.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/http/http_server.h"
#include "tests/service/grpc/test_server.h"
#include "tests/service/http/raw_client.h"

namespace sluice {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using testing::FakeBackend;
using testing::FakeTokenizer;
using ::testing::HasSubstr;
using testing::RawClient;
using testing::RawResponse;
using ::testing::SizeIs;
using testing::TestServer;
using testing::TestServerOptions;

constexpr char kTemplate[] =
    "{% for m in messages %}{% if m.role == 'nobody' %}{{ raise_exception('who?') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}{% endfor %}{{ eos_token }}";

// The tokens of `text`, then end-of-sequence.
FakeBackend::TokenFunction Say(const std::string& text) {
  const std::vector<TokenId> ids = FakeTokenizer().Encode(text, false, false);
  return [ids](const SequenceWork& work) {
    const auto i = static_cast<size_t>(work.output_index);
    return i < ids.size() ? ids[i] : FakeTokenizer::kEos;
  };
}

class OpenAiApiTest : public ::testing::Test {
 protected:
  ~OpenAiApiTest() override {
    backend().ReleaseSteps();
    http_.reset();
  }

  void Start(TestServerOptions options = TestServerOptions(),
             ChatTemplate chat = ChatTemplate::FromSource(kTemplate,
                                                          {{"eos_token", jinja::Value("!")}},
                                                          "test")) {
    server_ = std::make_unique<TestServer>(std::move(options));
    api_ = std::make_shared<OpenAiApi>(server_->MakeContext(), std::move(chat));
    HttpServerOptions http;
    http.port = 0;
    auto started = HttpServer::Start(http, api_);
    ASSERT_TRUE(started.ok()) << started.status();
    http_ = *std::move(started);
  }

  FakeBackend& backend() { return server_->backend(); }

  RawResponse Post(const std::string& path, const json& body, const std::string& headers = "") {
    RawClient client(http_->port());
    return client.Post(path, body.dump(), headers);
  }
  json Answer(const std::string& path, const json& body) {
    const RawResponse response = Post(path, body);
    EXPECT_EQ(response.status, 200) << response.body;
    return json::parse(response.body);
  }
  // The data of each event of a stream.
  std::vector<std::string> Events(const std::string& path, const json& body) {
    const RawResponse response = Post(path, body);
    EXPECT_EQ(response.status, 200) << response.body;
    EXPECT_EQ(response.headers.at("content-type"), "text/event-stream; charset=utf-8");
    EXPECT_TRUE(response.complete);
    std::vector<std::string> events;
    for (const auto event : absl::StrSplit(response.body, "\n\n", absl::SkipEmpty())) {
      EXPECT_TRUE(absl::StartsWith(event, "data: ")) << event;
      events.emplace_back(event.substr(6));
    }
    return events;
  }

  static json Chat(const std::string& content, int max_tokens) {
    return {{"messages", {{{"role", "user"}, {"content", content}}}}, {"max_tokens", max_tokens}};
  }
  static json Completion(const json& prompt, int max_tokens) {
    return {{"prompt", prompt}, {"max_tokens", max_tokens}, {"ignore_eos", true}};
  }

  std::unique_ptr<TestServer> server_;
  std::shared_ptr<OpenAiApi> api_;
  std::unique_ptr<HttpServer> http_;
};

constexpr char kChatPath[] = "/v1/chat/completions";
constexpr char kCompletionPath[] = "/v1/completions";

TEST_F(OpenAiApiTest, AChatIsAnsweredWhole) {
  Start();
  backend().set_token_function(Say("hello world"));
  const json answer = Answer(kChatPath, Chat("Hi", 50));
  EXPECT_EQ(answer["object"], "chat.completion");
  EXPECT_EQ(answer["model"], "fake");
  EXPECT_THAT(answer["id"].get<std::string>(), HasSubstr("chatcmpl-"));
  ASSERT_THAT(answer["choices"], SizeIs(1));
  const json& choice = answer["choices"][0];
  EXPECT_EQ(choice["message"]["role"], "assistant");
  EXPECT_EQ(choice["message"]["content"], "hello world");
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(choice["stop_reason"], FakeTokenizer::kEos);
  EXPECT_EQ(choice["logprobs"], nullptr);
  // "<user>Hi!", one token per byte, no BOS: the template writes what it wants.
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 9);
  EXPECT_EQ(answer["usage"]["completion_tokens"], 3);
  EXPECT_EQ(answer["usage"]["total_tokens"], 12);
  EXPECT_EQ(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
}

TEST_F(OpenAiApiTest, AChatIsStreamed) {
  Start();
  backend().set_token_function(Say("hello world"));
  json request = Chat("Hi", 50);
  request["stream"] = true;
  request["stream_options"] = {{"include_usage", true}};
  const std::vector<std::string> events = Events(kChatPath, request);
  ASSERT_GE(events.size(), 4U);
  EXPECT_EQ(events.back(), "[DONE]");
  const json first = json::parse(events.front());
  EXPECT_EQ(first["object"], "chat.completion.chunk");
  EXPECT_EQ(first["choices"][0]["delta"], json({{"role", "assistant"}, {"content", ""}}));
  std::string text;
  json finish;
  for (size_t i = 1; i + 2 < events.size(); ++i) {
    const json chunk = json::parse(events[i]);
    EXPECT_EQ(chunk["id"], first["id"]);
    EXPECT_EQ(chunk["usage"], nullptr);
    text += chunk["choices"][0]["delta"].value("content", "");
    finish = chunk["choices"][0]["finish_reason"];
  }
  EXPECT_EQ(text, "hello world");
  EXPECT_EQ(finish, "stop");
  const json usage = json::parse(events[events.size() - 2]);
  EXPECT_EQ(usage["choices"], json::array());
  EXPECT_EQ(usage["usage"]["completion_tokens"], 3);
}

TEST_F(OpenAiApiTest, ACompletionContinuesTextAndIds) {
  Start();
  json request = Completion("once", 12);
  request["seed"] = 5;
  const json by_text = Answer(kCompletionPath, request);
  EXPECT_EQ(by_text["object"], "text_completion");
  EXPECT_EQ(by_text["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(by_text["choices"][0]["text"].get<std::string>().size(), 12U);
  EXPECT_EQ(by_text["usage"]["prompt_tokens"], 5);  // the tokenizer adds BOS
  request["prompt"] = {FakeTokenizer::kBos, 'o', 'n', 'c', 'e'};
  const json by_ids = Answer(kCompletionPath, request);
  EXPECT_EQ(by_ids["choices"][0]["text"], by_text["choices"][0]["text"]);
  EXPECT_EQ(by_ids["usage"]["prompt_tokens"], 5);

  request["stream"] = true;
  std::string text;
  for (const std::string& event : Events(kCompletionPath, request)) {
    if (event != "[DONE]") text += json::parse(event)["choices"][0]["text"].get<std::string>();
  }
  EXPECT_EQ(text, by_text["choices"][0]["text"]);
}

TEST_F(OpenAiApiTest, CachedTokensAreReported) {
  Start();
  const std::string prompt(100, 'p');
  EXPECT_EQ(Answer(kCompletionPath,
                   Completion(prompt, 2))["usage"]["prompt_tokens_details"]["cached_tokens"],
            0);
  EXPECT_EQ(Answer(kCompletionPath,
                   Completion(prompt, 2))["usage"]["prompt_tokens_details"]["cached_tokens"],
            96);  // six blocks of 16
  json salted = Completion(prompt, 2);
  salted["cache_salt"] = "mine";
  EXPECT_EQ(Answer(kCompletionPath, salted)["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
}

TEST_F(OpenAiApiTest, SeveralSamplesAreSeveralChoices) {
  Start();
  json request = Completion("x", 8);
  request["n"] = 3;
  request["seed"] = 7;
  const json whole = Answer(kCompletionPath, request);
  ASSERT_THAT(whole["choices"], SizeIs(3));
  EXPECT_NE(whole["choices"][0]["text"], whole["choices"][1]["text"]);
  EXPECT_EQ(whole["usage"]["completion_tokens"], 24);
  EXPECT_EQ(whole["usage"]["prompt_tokens"], 2);

  request["stream"] = true;
  std::vector<std::string> texts(3);
  for (const std::string& event : Events(kCompletionPath, request)) {
    if (event == "[DONE]") continue;
    const json choice = json::parse(event)["choices"][0];
    texts[choice["index"].get<size_t>()] += choice["text"].get<std::string>();
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(texts[i], whole["choices"][i]["text"]) << i;
}

TEST_F(OpenAiApiTest, StopStringsEndTheText) {
  Start();
  backend().set_token_function(Say("one END two"));
  json request = Chat("Hi", 50);
  request["stop"] = "END";
  const json answer = Answer(kChatPath, request);
  EXPECT_EQ(answer["choices"][0]["message"]["content"], "one ");
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(answer["choices"][0]["stop_reason"], "END");
}

TEST_F(OpenAiApiTest, LogprobsComeInTheFormOfEachEndpoint) {
  Start();
  backend().set_token_function(Say("é1"));
  json chat = Chat("Hi", 2);
  chat["logprobs"] = true;
  chat["top_logprobs"] = 2;
  const json content = Answer(kChatPath, chat)["choices"][0]["logprobs"]["content"];
  ASSERT_THAT(content, SizeIs(2));
  EXPECT_EQ(content[0]["token"], "é");
  EXPECT_EQ(content[0]["bytes"], json({0xC3, 0xA9}));
  EXPECT_EQ(content[0]["logprob"], -0.5);
  EXPECT_THAT(content[0]["top_logprobs"], SizeIs(2));

  json completion = Completion("Hi", 2);
  completion["logprobs"] = 1;
  const json logprobs = Answer(kCompletionPath, completion)["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"], json({"é", "1"}));
  EXPECT_EQ(logprobs["token_logprobs"], json({-0.5, -0.5}));
  EXPECT_EQ(logprobs["text_offset"], json({0, 1}));
  EXPECT_EQ(logprobs["top_logprobs"][0], json({{"é", -0.5}}));
}

TEST_F(OpenAiApiTest, PlainGetsAnswer) {
  Start();
  RawClient client(http_->port());
  EXPECT_EQ(json::parse(client.Get("/health").body)["status"], "ok");
  EXPECT_TRUE(json::parse(client.Get("/version").body).contains("version"));
  const json models = json::parse(client.Get("/v1/models").body);
  EXPECT_EQ(models["object"], "list");
  EXPECT_EQ(models["data"][0]["id"], "fake");
  EXPECT_EQ(models["data"][0]["max_model_len"], 4096);
  EXPECT_EQ(json::parse(client.Get("/v1/models/fake").body)["id"], "fake");
  EXPECT_EQ(client.Get("/v1/models/other").status, 404);
}

TEST_F(OpenAiApiTest, WrongRequestsGetTheRightStatus) {
  Start();
  struct Case {
    std::string path;
    json body;
    int status;
    std::string message;
    json param;
  };
  json unknown_model = Chat("x", 1);
  unknown_model["model"] = "gpt-4";
  json hot = Chat("x", 1);
  hot["temperature"] = 1000;
  json nobody = Chat("x", 1);
  nobody["messages"][0]["role"] = "nobody";
  const std::vector<Case> cases = {
      {kChatPath, unknown_model, 404, "The model `gpt-4` does not exist", "model"},
      {kChatPath, hot, 400, "temperature: 1000 is not in [0, 100]", "temperature"},
      {kChatPath, nobody, 400, "chat template (test): line 1: who?", nullptr},
      {kChatPath, Chat("x", 0), 400, "max_tokens: 0 is not at least 1", "max_tokens"},
      {kCompletionPath, Completion({1, 9999}, 1), 400, "prompt[1]: 9999 is not in [0, ",
       "prompt[1]"},
      {kCompletionPath, Completion("", 1), 200, "", nullptr},  // BOS is there
      {kCompletionPath, Completion(std::string(5000, 'x'), 1), 400, "max_model_len is 4096",
       "prompt"},
      {"/v1/embeddings", Chat("x", 1), 404, "there is no /v1/embeddings", nullptr},
      {"/v1/models", Chat("x", 1), 405, "/v1/models takes GET", nullptr}};
  for (const Case& one : cases) {
    const RawResponse response = Post(one.path, one.body);
    EXPECT_EQ(response.status, one.status) << response.body;
    if (one.status == 200) continue;
    const json error = json::parse(response.body)["error"];
    EXPECT_THAT(error["message"].get<std::string>(), HasSubstr(one.message));
    EXPECT_EQ(error["param"], one.param) << response.body;
  }
  RawClient client(http_->port());
  EXPECT_EQ(client.Get(kChatPath).status, 405);
  client.Send(
      absl::StrCat("POST ", kChatPath, " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"));
  EXPECT_EQ(client.ReadResponse().status, 415);
  EXPECT_EQ(client.Post(kChatPath, "{]").status, 400);
}

TEST_F(OpenAiApiTest, TheTenantAndTheRequestIdAreHeaders) {
  Start();
  const RawResponse named = Post(kCompletionPath, Completion("x", 1),
                                 "X-Request-Id: mine\r\nX-Sluice-Tenant: team-a\r\n");
  EXPECT_EQ(named.headers.at("x-request-id"), "mine");
  EXPECT_EQ(json::parse(named.body)["id"], "cmpl-mine");
  const RawResponse bad = Post(kCompletionPath, Completion("x", 1), "X-Sluice-Tenant: a b\r\n");
  EXPECT_EQ(bad.status, 400);
  EXPECT_EQ(json::parse(bad.body)["error"]["param"], "x-sluice-tenant");
}

TEST_F(OpenAiApiTest, AFullQueueIs429AlsoForStreams) {
  TestServerOptions options;
  options.scheduler.queue_limit = 1;
  options.scheduler.max_running = 1;
  Start(std::move(options));
  backend().HoldSteps();
  RawClient running(http_->port());
  running.Send(RawClient::Request(kCompletionPath, Completion("a", 5).dump()));
  backend().WaitUntilHeld();
  RawClient waiting(http_->port());
  waiting.Send(RawClient::Request(kCompletionPath, Completion("b", 5).dump()));
  json streamed = Completion("c", 5);
  streamed["stream"] = true;
  RawClient refused(http_->port());
  refused.Send(RawClient::Request(kCompletionPath, streamed.dump()));
  backend().ReleaseSteps();
  // Which of the two came first is the kernel's choice.
  std::vector<int> statuses;
  for (RawClient* client : {&waiting, &refused}) {
    const RawResponse response = client->ReadResponse();
    statuses.push_back(response.status);
    if (response.status == 200) continue;
    EXPECT_EQ(response.status, 429);
    EXPECT_GE(std::stoi(response.headers.at("retry-after")), 1);
    EXPECT_EQ(json::parse(response.body)["error"]["type"], "rate_limit_error");
    EXPECT_THAT(response.body, HasSubstr("queue is full"));
  }
  EXPECT_THAT(statuses, ::testing::UnorderedElementsAre(200, 429));
  EXPECT_EQ(running.ReadResponse().status, 200);
}

TEST_F(OpenAiApiTest, ADrainingServerIs503) {
  Start();
  server_->server().BeginDrain();
  EXPECT_TRUE(server_->WaitForLoad([](const v1::Load& load) { return load.draining(); }));
  const RawResponse response = Post(kCompletionPath, Completion("x", 1));
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.headers.count("retry-after"), 1U);
  RawClient client(http_->port());
  EXPECT_EQ(client.Get("/health").status, 503);
}

TEST_F(OpenAiApiTest, AClientThatLeavesIsForgotten) {
  Start();
  backend().set_step_time(absl::Milliseconds(1));
  for (const bool stream : {true, false}) {
    json request = Completion("x", 4000);
    request["stream"] = stream;
    {
      RawClient client(http_->port());
      client.Send(RawClient::Request(kCompletionPath, request.dump()));
      ASSERT_TRUE(server_->WaitUntilUsed());
    }
    EXPECT_TRUE(server_->WaitUntilFree()) << stream;
  }
}

TEST_F(OpenAiApiTest, AClientThatDoesNotReadIsCutOffAndOthersGoOn) {
  TestServerOptions options;
  options.stream_capacity = Tokens(64);
  options.scheduler.max_model_len = Tokens(100'000);
  options.scheduler.device_blocks = Blocks(10'000);
  Start(std::move(options));
  json request = Completion("x", 90'000);
  request["stream"] = true;
  request["logprobs"] = 20;  // fills the socket soon
  RawClient deaf(http_->port(), /*receive_buffer=*/4096);
  deaf.Send(RawClient::Request(kCompletionPath, request.dump()));
  ASSERT_TRUE(server_->WaitUntilUsed());
  EXPECT_EQ(Answer(kCompletionPath, Completion("y", 5))["usage"]["completion_tokens"], 5);
  EXPECT_TRUE(server_->WaitUntilFree());
}

TEST_F(OpenAiApiTest, AFaultOfTheBackendIs500OrAnErrorEvent) {
  Start();
  backend().FailNextStep(absl::InternalError("device on fire"));
  const RawResponse whole = Post(kCompletionPath, Completion("x", 5));
  EXPECT_EQ(whole.status, 500);
  EXPECT_THAT(whole.body, HasSubstr("device on fire"));

  backend().FailNextStep(absl::InternalError("device on fire"));
  json request = Completion("x", 5);
  request["stream"] = true;
  const RawResponse stream = Post(kCompletionPath, request);
  // The status depends on whether the stream had begun; that there was a fault does not.
  EXPECT_TRUE(stream.status == 500 || stream.status == 200);
  EXPECT_THAT(stream.body, HasSubstr("device on fire"));
  EXPECT_THAT(stream.body, ::testing::Not(HasSubstr("[DONE]")));
  EXPECT_TRUE(stream.complete);
}

TEST_F(OpenAiApiTest, AnUnusableTemplateRefusesChatsAndNothingElse) {
  Start(TestServerOptions(), ChatTemplate::FromSource("{% include 'x' %}", {}, "broken.jinja"));
  const RawResponse chat = Post(kChatPath, Chat("x", 1));
  EXPECT_EQ(chat.status, 400);
  EXPECT_THAT(chat.body, HasSubstr("chat template (broken.jinja): line 1: the statement"));
  EXPECT_EQ(Post(kCompletionPath, Completion("x", 1)).status, 200);
}

TEST_F(OpenAiApiTest, AModelWithoutATemplateChatsInLines) {
  Start(TestServerOptions(), ChatTemplate::Fallback());
  // "<bos>", "user: Hi\n" and "assistant:".
  EXPECT_EQ(Answer(kChatPath, Chat("Hi", 1))["usage"]["prompt_tokens"], 1 + 9 + 10);
}

TEST_F(OpenAiApiTest, ManyAtOnce) {
  Start();
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([this, i] {
      RawClient client(http_->port());
      for (int k = 0; k < 5; ++k) {
        json request = Completion(absl::StrCat("prompt ", i), 20);
        request["stream"] = k % 2 == 0;
        const RawResponse response = client.Post(kCompletionPath, request.dump());
        EXPECT_EQ(response.status, 200);
        EXPECT_TRUE(response.complete);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_TRUE(server_->WaitUntilFree());
}

}  // namespace
}  // namespace sluice
