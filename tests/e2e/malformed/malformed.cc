#include "tests/e2e/malformed/malformed.h"

#include <array>
#include <chrono>
#include <functional>
#include <iomanip>
#include <limits>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "google/protobuf/stubs/logging.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "sluice/v1/control.grpc.pb.h"
#include "sluice/v1/inference.grpc.pb.h"
#include "tests/e2e/malformed/bad_requests.h"
#include "tests/e2e/malformed/raw_client.h"

namespace sluice::malformed {
namespace {

using grpc::StatusCode;

constexpr char kGenerate[] = "/sluice.v1.Inference/Generate";

std::string CodeName(StatusCode code) {
  // gRPC's and Abseil's codes are the same numbers.
  return absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
}

class Attacker {
 public:
  explicit Attacker(const Options& options)
      : options_(options),
        random_(options.seed),
        channel_(NewChannel()),
        inference_(v1::Inference::NewStub(channel_)),
        control_(v1::Control::NewStub(channel_)) {}

  Result Run() {
    if (!LearnAboutTheServer()) return std::move(result_);
    const std::vector<Kind> kinds = Kinds();
    int total = 0;
    for (const Kind& kind : kinds) total += kind.weight;
    for (int i = 0; i < options_.count && result_.failure.empty(); ++i) {
      // The rare kinds come up too, however few requests there are.
      size_t chosen = static_cast<size_t>(i);
      if (chosen >= kinds.size()) {
        auto ticket = static_cast<int>(Below(static_cast<uint64_t>(total)));
        for (chosen = 0; ticket >= kinds[chosen].weight; ++chosen) ticket -= kinds[chosen].weight;
      }
      kind_ = kinds[chosen].name;
      kinds[chosen].send();
    }
    half_open_.clear();
    if (result_.failure.empty()) CheckGoodRequest();
    if (result_.failure.empty()) CheckNothingLeft();
    return std::move(result_);
  }

 private:
  struct Kind {
    const char* name;
    int weight;
    std::function<void()> send;
  };

  std::vector<Kind> Kinds() {
    return {
        {"bad field", 40, [this] { BadField(); }},
        {"invalid UTF-8", 10,
         [this] {
           Expect(StatusCode::INVALID_ARGUMENT, CallRaw(kGenerate, {WithInvalidUtf8(random_)}));
         }},
        {"not a message", 15, [this] { NoMessage(); }},
        {"no message at all", 3,
         [this] { Expect(StatusCode::INVALID_ARGUMENT, CallRaw(kGenerate, {})); }},
        {"bad then second message", 3, [this] { SecondMessage(); }},
        {"unknown method", 5, [this] { UnknownMethod(); }},
        {"unknown fields", 3, [this] { UnknownFields(); }},
        {"bad unary field", 6, [this] { BadUnary(); }},
        {"compressed garbage", 4, [this] { CompressedGarbage(); }},
        {"compressed bomb", 0, [this] { CompressedBomb(); }},
        {"oversized message", 0, [this] { Oversized(); }},
        {"oversized metadata", 2, [this] { OversizedMetadata(); }},
        {"aborted stream", 5, [this] { AbortedStream(); }},
        {"short deadline", 3, [this] { ShortDeadline(); }},
        {"garbage on the port", 5, [this] { GarbageOnThePort(); }},
        {"half-open connection", 3, [this] { HalfOpen(); }},
        {"http/1.1", 1, [this] { Http1(); }},
    };
  }

  std::shared_ptr<grpc::Channel> NewChannel() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(options_.endpoint, grpc::InsecureChannelCredentials(),
                                     arguments);
  }

  uint64_t Below(uint64_t n) { return random_() % n; }

  grpc::Status CallRaw(const std::string& method, std::vector<std::string> messages) {
    return Call(channel_, {method, std::move(messages), {}, false});
  }

  // Counts the answer; a wrong one ends the run.
  void Expect(const std::set<StatusCode>& want, const grpc::Status& got,
              const std::string& detail = "") {
    ++result_.counts[kind_][CodeName(got.error_code())];
    if (want.count(got.error_code()) > 0) return;
    std::string wanted;
    for (const StatusCode code : want)
      wanted += std::string(wanted.empty() ? "" : " or ") + CodeName(code);
    result_.failure = kind_ + (detail.empty() ? "" : " (" + detail + ")") + ": want " + wanted +
                      ", got " + CodeName(got.error_code()) + ": " + got.error_message();
  }
  void Expect(StatusCode want, const grpc::Status& got, const std::string& detail = "") {
    Expect(std::set<StatusCode>{want}, got, detail);
  }

  // What a bad request that involves text is answered: a model may have no tokenizer at all.
  StatusCode BadText() const {
    return has_text_ ? StatusCode::INVALID_ARGUMENT : StatusCode::FAILED_PRECONDITION;
  }

  bool LearnAboutTheServer() {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    const grpc::Status status = control_->GetServerInfo(&context, {}, &info_);
    if (!status.ok()) result_.failure = "GetServerInfo: " + status.error_message();
    grpc::ClientContext text_context;
    v1::TokenizeResponse tokens;
    has_text_ = inference_->Tokenize(&text_context, {}, &tokens).ok();
    return status.ok();
  }

  void BadField() {
    const Mutation& mutation = Mutations()[Below(Mutations().size())];
    v1::GenerateRequest request = GoodRequest();
    mutation.apply(&request, info_, random_);
    Expect(request.has_text() ? BadText() : StatusCode::INVALID_ARGUMENT,
           CallRaw(kGenerate, {request.SerializeAsString()}), mutation.name);
  }

  void NoMessage() {
    switch (Below(5)) {
      case 0:
        return Expect(StatusCode::INVALID_ARGUMENT,
                      CallRaw("/sluice.v1.Inference/Tokenize",
                              {NotAMessage(v1::TokenizeRequest(), random_)}));
      case 1:
        return Expect(StatusCode::INVALID_ARGUMENT,
                      CallRaw("/sluice.v1.Inference/Detokenize",
                              {NotAMessage(v1::DetokenizeRequest(), random_)}));
      case 2:
        // Never bytes that could be a drain.
        return Expect(StatusCode::INVALID_ARGUMENT,
                      CallRaw("/sluice.v1.Control/Drain", {"\x2A\xFF\xFF\xFF\xFF\x07"}));
      case 3:
        return Expect(StatusCode::INVALID_ARGUMENT,
                      CallRaw("/grpc.health.v1.Health/Watch",
                              {NotAMessage(grpc::health::v1::HealthCheckRequest(), random_)}));
      default:
        return Expect(StatusCode::INVALID_ARGUMENT,
                      CallRaw(kGenerate, {NotAMessage(v1::GenerateRequest(), random_)}));
    }
  }

  void SecondMessage() {
    v1::GenerateRequest bad = GoodRequest();
    bad.set_n(17);
    Expect(StatusCode::INVALID_ARGUMENT,
           CallRaw(kGenerate, {bad.SerializeAsString(), GoodRequest().SerializeAsString()}));
  }

  void UnknownMethod() {
    const std::array<std::string, 5> methods = {
        "/sluice.v1.Inference/Nothing", "/sluice.v9.Inference/Generate",
        "/sluice.v1.Inference/generate", "/a/b", "/sluice.v1.Inference/Generate/more"};
    Expect(StatusCode::UNIMPLEMENTED,
           CallRaw(methods[Below(methods.size())], {GoodRequest().SerializeAsString()}));
  }

  // From a newer client, so to speak: not an error.
  void UnknownFields() {
    std::string bytes = GoodRequest().SerializeAsString();
    bytes +=
        "\xC2\x3E\x03"
        "new";  // field 1000
    Expect(StatusCode::OK, CallRaw(kGenerate, {bytes}));
  }

  void BadUnary() {
    switch (Below(3)) {
      case 0: {
        v1::DetokenizeRequest request;
        request.add_ids(info_.vocab_size() + static_cast<uint32_t>(Below(1000)));
        return Expect(BadText(),
                      CallRaw("/sluice.v1.Inference/Detokenize", {request.SerializeAsString()}));
      }
      case 1: {
        v1::DrainRequest request;
        request.set_timeout_s(Below(2) == 0 ? -1.0 : std::numeric_limits<double>::quiet_NaN());
        return Expect(StatusCode::INVALID_ARGUMENT,
                      CallRaw("/sluice.v1.Control/Drain", {request.SerializeAsString()}));
      }
      default: {
        grpc::health::v1::HealthCheckRequest request;
        request.set_service("no.such.Service" + std::to_string(Below(1000)));
        return Expect(StatusCode::NOT_FOUND,
                      CallRaw("/grpc.health.v1.Health/Check", {request.SerializeAsString()}));
      }
    }
  }

  void CompressedGarbage() {
    std::string bytes = NotAMessage(v1::GenerateRequest(), random_);
    bytes.append(2000, bytes.back());  // worth compressing
    const google::protobuf::LogSilencer silence;
    const bool parses = v1::GenerateRequest().ParseFromString(bytes);
    Expect(parses ? std::set<StatusCode>{StatusCode::OK, StatusCode::INVALID_ARGUMENT}
                  : std::set<StatusCode>{StatusCode::INVALID_ARGUMENT},
           Call(channel_, {kGenerate, {bytes}, {}, true}));
  }

  // Small on the wire, above the limit once unpacked.
  void CompressedBomb() {
    Expect(StatusCode::RESOURCE_EXHAUSTED, Call(NewChannel(), {kGenerate, {TooLarge()}, {}, true}));
  }

  void Oversized() {
    Expect(StatusCode::RESOURCE_EXHAUSTED,
           Call(NewChannel(), {kGenerate, {TooLarge()}, {}, false}));
  }

  std::string TooLarge() const {
    return std::string(static_cast<size_t>(options_.max_receive_bytes) + 1, '\0');
  }

  void OversizedMetadata() {
    // The server may hang up before the client has sent all of it.
    Expect({StatusCode::RESOURCE_EXHAUSTED, StatusCode::UNAVAILABLE},
           Call(NewChannel(), {kGenerate,
                               {GoodRequest().SerializeAsString()},
                               {{"x-padding", std::string(100'000, 'x')}},
                               false}));
  }

  v1::GenerateRequest LongRequest() {
    v1::GenerateRequest request = GoodRequest();
    request.mutable_stopping()->clear_max_tokens();
    request.set_n(1 + static_cast<uint32_t>(Below(4)));
    return request;
  }

  void AbortedStream() {
    grpc::ClientContext context;
    const auto reader = inference_->Generate(&context, LongRequest());
    v1::GenerateResponse response;
    for (uint64_t i = Below(3); i > 0 && reader->Read(&response); --i) {
    }
    context.TryCancel();
    // OK if the server was faster.
    Expect({StatusCode::CANCELLED, StatusCode::OK}, reader->Finish());
  }

  void ShortDeadline() {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(Below(20)));
    const auto reader = inference_->Generate(&context, LongRequest());
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
    }
    Expect({StatusCode::DEADLINE_EXCEEDED, StatusCode::OK}, reader->Finish());
  }

  // What is no HTTP/2 must be hung up on.
  void ExpectHangUp(const std::string& bytes) {
    TcpConnection connection(options_.endpoint);
    connection.Send(bytes);
    const bool closed = connection.connected() && connection.WaitForClose(std::chrono::seconds(20));
    ++result_.counts[kind_][closed ? "closed" : "left open"];
    if (!closed) result_.failure = kind_ + ": the server did not close the connection";
  }

  void GarbageOnThePort() {
    std::string bytes = Below(2) == 0 ? "" : "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // Long enough to hold a frame header, whose length is then out of range.
    bytes += std::string(24, '\xFF');
    for (uint64_t i = 0; i < Below(4000); ++i) bytes += static_cast<char>(Below(256));
    ExpectHangUp(bytes);
  }

  void Http1() { ExpectHangUp("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"); }

  // Stays open, and silent, until the end of the run.
  void HalfOpen() {
    TcpConnection connection(options_.endpoint);
    const std::string preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    connection.Send(preface.substr(0, Below(preface.size() + 1)));
    ++result_.counts[kind_][connection.connected() ? "connected" : "refused"];
    if (!connection.connected()) result_.failure = kind_ + ": cannot connect";
    half_open_.push_back(std::move(connection));
  }

  void CheckGoodRequest() {
    kind_ = "good request, at the end";
    Expect(StatusCode::OK, CallRaw(kGenerate, {GoodRequest().SerializeAsString()}));
  }

  void CheckNothingLeft() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    v1::Load load;
    do {
      grpc::ClientContext context;
      load.Clear();
      if (!control_->GetLoad(&context, {}, &load).ok()) break;
      if (load.running() + load.waiting() == 0 && load.device().referenced() == 0) return;
      std::this_thread::yield();
    } while (std::chrono::steady_clock::now() < deadline);
    result_.failure = "at the end, still in use after a minute: " + load.ShortDebugString();
  }

  const Options options_;
  Random random_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Inference::Stub> inference_;
  const std::unique_ptr<v1::Control::Stub> control_;
  v1::ServerInfo info_;
  bool has_text_ = true;  // the model has a tokenizer
  std::string kind_;
  Result result_;
  std::vector<TcpConnection> half_open_;
};

}  // namespace

Result Attack(const Options& options) { return Attacker(options).Run(); }

void Print(const Result& result, std::ostream& out) {
  int total = 0;
  out << std::left << std::setw(28) << "request" << std::setw(22) << "answer"
      << "count\n";
  for (const auto& [kind, codes] : result.counts) {
    for (const auto& [code, count] : codes) {
      out << std::setw(28) << kind << std::setw(22) << code << count << "\n";
      total += count;
    }
  }
  out << std::setw(50) << "total" << total << "\n";
  if (!result.failure.empty()) out << "WRONG: " << result.failure << "\n";
}

}  // namespace sluice::malformed
