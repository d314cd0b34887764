// The HTTP server below any API: framing, limits, deadlines, and clients that misbehave.
#include "service/http/http_server.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/http/raw_client.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::sluice::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::RawClient;
using testing::RawResponse;

// POST /echo sends the body back; /stream sends it as three pieces; /flood sends pieces as long as
// they are taken; /wait never answers.
class TestHandler : public HttpHandler {
 public:
  class Call : public HttpCall {
   public:
    Call(TestHandler& owner, std::shared_ptr<HttpExchange> exchange, bool flood)
        : owner_(owner), exchange_(std::move(exchange)), flood_(flood) {}
    void OnWritable() override {
      if (flood_) exchange_->Send(std::string(1 << 16, 'x'));
    }
    void OnClosed() override { owner_.NoteClosed(); }

   private:
    TestHandler& owner_;
    const std::shared_ptr<HttpExchange> exchange_;
    const bool flood_;
  };

  std::shared_ptr<HttpCall> Handle(HttpRequest request,
                                   std::shared_ptr<HttpExchange> exchange) override {
    if (request.path == "/stream") {
      exchange->Begin({200, "text/plain", {}, ""});
      for (const char* piece : {"one ", "two ", "three"}) exchange->Send(piece);
      exchange->End();
      return nullptr;
    }
    if (request.path == "/flood") exchange->Begin({200, "text/plain", {}, ""});
    if (request.path == "/wait" || request.path == "/flood") {
      auto call = std::make_shared<Call>(*this, std::move(exchange), request.path == "/flood");
      NoteStarted();
      return call;
    }
    exchange->Respond({200,
                       "text/plain",
                       {{"X-Method", request.method}},
                       absl::StrCat(request.path, " ", std::string(request.Header("x-name")), " ",
                                    request.body)});
    return nullptr;
  }

  HttpResponse Refuse(int status, const std::string& message) const override {
    return {status, "text/plain", {}, absl::StrCat("refused: ", message)};
  }

  void WaitForStarted(int count) {
    std::unique_lock<std::mutex> lock(mu_);
    ASSERT_TRUE(
        changed_.wait_for(lock, std::chrono::seconds(30), [&] { return started_ >= count; }));
  }
  void WaitForClosed(int count) {
    std::unique_lock<std::mutex> lock(mu_);
    ASSERT_TRUE(
        changed_.wait_for(lock, std::chrono::seconds(30), [&] { return closed_ >= count; }));
  }
  int closed() {
    std::lock_guard<std::mutex> lock(mu_);
    return closed_;
  }

 private:
  void NoteStarted() {
    std::lock_guard<std::mutex> lock(mu_);
    ++started_;
    changed_.notify_all();
  }
  void NoteClosed() {
    std::lock_guard<std::mutex> lock(mu_);
    ++closed_;
    changed_.notify_all();
  }

  std::mutex mu_;
  std::condition_variable changed_;
  int started_ = 0;  // guarded by mu_
  int closed_ = 0;   // guarded by mu_
};

class HttpServerTest : public ::testing::Test {
 protected:
  HttpServerTest() { options_.port = 0; }

  void Start() {
    auto server = HttpServer::Start(options_, handler_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  int port() const { return server_->port(); }

  // Everything still works.
  void ExpectHealthy() {
    RawClient client(port());
    EXPECT_EQ(client.Post("/echo", "x").body, "/echo  x");
  }

  HttpServerOptions options_;
  const std::shared_ptr<TestHandler> handler_ = std::make_shared<TestHandler>();
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, AnswersSeveralRequestsOnOneConnection) {
  Start();
  RawClient client(port());
  for (const char* body : {"first", "second", ""}) {
    const RawResponse response = client.Post("/echo?query=1", body, "X-Name: n\r\n");
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, absl::StrCat("/echo n ", body));
    EXPECT_EQ(response.headers.at("connection"), "keep-alive");
    EXPECT_EQ(response.headers.at("x-method"), "POST");
  }
  EXPECT_EQ(server_->connections(), 1);
}

TEST_F(HttpServerTest, AnswersRequestsThatCameTogetherInOrder) {
  Start();
  RawClient client(port());
  client.Send(RawClient::Request("/echo", "a") + RawClient::Request("/stream", "b") +
              RawClient::Request("/echo", "c"));
  EXPECT_EQ(client.ReadResponse().body, "/echo  a");
  EXPECT_EQ(client.ReadResponse().body, "one two three");
  EXPECT_EQ(client.ReadResponse().body, "/echo  c");
}

TEST_F(HttpServerTest, ReadsRequestsInAnyPieces) {
  Start();
  RawClient client(port());
  for (const char c : RawClient::Request("/echo", "slowly")) ASSERT_TRUE(client.Send({&c, 1}));
  EXPECT_EQ(client.ReadResponse().body, "/echo  slowly");
  client.Send(
      "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
      "2\r\nde\r\n0\r\n\r\n");
  EXPECT_EQ(client.ReadResponse().body, "/echo  abcde");
}

TEST_F(HttpServerTest, StreamsInChunksOrToTheEndOfTheConnection) {
  Start();
  RawClient client(port());
  const RawResponse chunked = client.Post("/stream", "x");
  EXPECT_EQ(chunked.headers.at("transfer-encoding"), "chunked");
  EXPECT_EQ(chunked.body, "one two three");
  EXPECT_TRUE(chunked.complete);
  RawClient old(port());
  old.Send("POST /stream HTTP/1.0\r\nContent-Length: 1\r\n\r\nx");
  const RawResponse whole = old.ReadResponse();
  EXPECT_EQ(whole.headers.at("connection"), "close");
  EXPECT_EQ(whole.body, "one two three");
}

TEST_F(HttpServerTest, AnswersHeadWithoutABody) {
  Start();
  RawClient client(port());
  client.Send("HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.ReadHead().headers.at("content-length"), "4");
  EXPECT_EQ(client.Get("/y").body, "/y  ");  // the next answer follows at once
}

TEST_F(HttpServerTest, ClosesWhenTheClientAsksForIt) {
  Start();
  RawClient client(port());
  EXPECT_EQ(client.Post("/echo", "x", "Connection: close\r\n").headers.at("connection"), "close");
  EXPECT_EQ(client.Receive(), "");
}

TEST_F(HttpServerTest, SaysContinueBeforeALargeBody) {
  Start();
  RawClient client(port());
  client.Send(
      "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(client.ReadResponse().status, 100);
  client.Send("ab");
  EXPECT_EQ(client.ReadResponse().body, "/echo  ab");
}

TEST_F(HttpServerTest, RefusesLargeBodiesUnread) {
  options_.max_body_bytes = 1000;
  Start();
  RawClient client(port());
  client.Send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n");
  const RawResponse declared = client.ReadResponse();
  EXPECT_EQ(declared.status, 413);
  EXPECT_EQ(declared.body, "refused: the body is larger than 1000 bytes; shorten the request");
  EXPECT_EQ(client.Receive(), "");

  RawClient chunked(port());
  chunked.Send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n" +
               std::string(0x800, 'x'));
  EXPECT_EQ(chunked.ReadResponse().status, 413);
  ExpectHealthy();
}

TEST_F(HttpServerTest, AClientThatSendsOnStillReadsWhyItWasRefused) {
  options_.max_body_bytes = 1000;
  Start();
  RawClient client(port());
  const std::string body(3 << 20, 'x');
  client.Send(RawClient::Request("/echo", body));
  EXPECT_EQ(client.ReadResponse().status, 413);
}

TEST_F(HttpServerTest, RefusesLargeHeaders) {
  options_.max_header_bytes = 1000;
  Start();
  RawClient client(port());
  client.Send(absl::StrCat("GET / HTTP/1.1\r\nX: ", std::string(2000, 'x'), "\r\n\r\n"));
  EXPECT_EQ(client.ReadResponse().status, 431);
  ExpectHealthy();
}

TEST_F(HttpServerTest, RefusesWhatIsNotHttp) {
  Start();
  for (const char* bytes : {"\x16\x03\x01\x02", "GET\r\n\r\n", "GET / HTTP/3.7\r\n\r\n",
                            "POST / HTTP/1.1\r\nContent-Length: minus\r\n\r\n",
                            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"
                            "\r\n0\r\n\r\n"}) {
    RawClient client(port());
    client.Send(bytes);
    client.CloseSending();
    const RawResponse response = client.ReadResponse();
    EXPECT_TRUE(response.status == 400 || response.status == 0) << bytes << response.status;
  }
  ExpectHealthy();
}

TEST_F(HttpServerTest, RefusesBodiesThatTogetherAreTooLarge) {
  options_.max_pending_body_bytes = 1500;
  options_.max_body_bytes = 1000;
  Start();
  RawClient first(port());
  first.Send(
      "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n");
  EXPECT_EQ(first.ReadResponse().status, 100);
  RawClient second(port());
  second.Send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
  EXPECT_EQ(second.ReadResponse().status, 503);
  first.Send(std::string(1000, 'x'));
  EXPECT_EQ(first.ReadResponse().status, 200);
  ExpectHealthy();
}

TEST_F(HttpServerTest, RefusesMoreConnectionsThanItMayHave) {
  options_.max_connections = 2;
  Start();
  RawClient first(port());
  RawClient second(port());
  EXPECT_EQ(first.Post("/echo", "x").status, 200);
  EXPECT_EQ(second.Post("/echo", "x").status, 200);
  RawClient third(port());
  const RawResponse refused = third.ReadResponse();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.at("retry-after"), "1");
  first.Close();
  while (server_->connections() > 1) std::this_thread::yield();
  RawClient fourth(port());
  EXPECT_EQ(fourth.Post("/echo", "x").status, 200);
}

TEST_F(HttpServerTest, SlowHeadersAreCutOffHoweverTheyTrickle) {
  options_.header_timeout = absl::Milliseconds(200);
  Start();
  RawClient client(port());
  const absl::Time start = absl::Now();
  // Never silent for long, so a deadline per read would not help.
  while (client.Send("G") && !client.EndsWithin(absl::Milliseconds(20))) {
    ASSERT_LT(absl::Now() - start, absl::Seconds(20));
  }
  EXPECT_LT(absl::Now() - start, absl::Seconds(15));
  ExpectHealthy();
}

TEST_F(HttpServerTest, SlowBodiesAndIdleConnectionsAreCutOff) {
  options_.body_timeout = absl::Milliseconds(100);
  options_.idle_timeout = absl::Milliseconds(100);
  Start();
  RawClient slow(port());
  slow.Send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(slow.Receive(), "");
  RawClient idle(port());
  EXPECT_EQ(idle.Receive(), "");
  ExpectHealthy();
}

TEST_F(HttpServerTest, NoticesThatTheClientHasLeft) {
  Start();
  {
    RawClient closes(port());
    closes.Send(RawClient::Request("/wait", "x"));
    handler_->WaitForStarted(1);
  }
  handler_->WaitForClosed(1);
  RawClient half(port());
  half.Send(RawClient::Request("/wait", "x"));
  handler_->WaitForStarted(2);
  half.CloseSending();
  handler_->WaitForClosed(2);
  EXPECT_EQ(half.Receive(), "");
}

TEST_F(HttpServerTest, BytesOfTheNextRequestAreNoReasonToLeave) {
  Start();
  RawClient client(port());
  client.Send(RawClient::Request("/wait", "x") + "GET /early");
  handler_->WaitForStarted(1);
  ExpectHealthy();
  EXPECT_EQ(handler_->closed(), 0);
}

TEST_F(HttpServerTest, AClientThatDoesNotReadIsCutOffAndHoldsUpNobody) {
  options_.write_timeout = absl::Milliseconds(300);
  Start();
  RawClient deaf(port(), /*receive_buffer=*/4096);
  deaf.Send(RawClient::Request("/flood", "x"));
  handler_->WaitForStarted(1);
  ExpectHealthy();
  handler_->WaitForClosed(1);
}

TEST_F(HttpServerTest, ShutdownWaitsForAnswersAndThenBreaksThemOff) {
  Start();
  RawClient waiting(port());
  waiting.Send(RawClient::Request("/wait", "x"));
  handler_->WaitForStarted(1);
  RawClient idle(port());
  EXPECT_EQ(idle.Post("/echo", "x").status, 200);
  server_->Shutdown(absl::Milliseconds(50));
  EXPECT_EQ(handler_->closed(), 1);
  EXPECT_EQ(waiting.Receive(), "");
  EXPECT_EQ(idle.Receive(), "");
  EXPECT_EQ(server_->connections(), 0);
}

TEST_F(HttpServerTest, AClosedPortIsFree) {
  Start();
  const int port = server_->port();
  {
    RawClient client(port);
    EXPECT_EQ(client.Post("/echo", "x").status, 200);
  }
  server_.reset();
  options_.port = port;
  Start();
  ExpectHealthy();
}

TEST_F(HttpServerTest, SaysWhyItCannotListen) {
  Start();
  HttpServerOptions taken = options_;
  taken.port = port();
  EXPECT_THAT(HttpServer::Start(taken, handler_),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr(absl::StrCat("port ", port())), HasSubstr("in use"))));
  taken.host = "no such host";
  EXPECT_THAT(HttpServer::Start(taken, handler_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no such host")));
}

TEST_F(HttpServerTest, ServesOnLoopbackNamesAndIpv6Addresses) {
  for (const char* host : {"localhost", "127.0.0.1", "0.0.0.0"}) {
    options_.host = host;
    Start();
    if (std::string(host) != "localhost") ExpectHealthy();  // may be ::1
  }
}

}  // namespace
}  // namespace sluice
