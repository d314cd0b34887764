// A whole server around a FakeBackend: the real scheduler, engine and gRPC server, on a free port.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "gtest/gtest.h"
#include "scheduler/base/check.h"
#include "scheduler/scheduler.h"
#include "service/access/access_control.h"
#include "service/engine/engine.h"
#include "service/grpc/server.h"
#include "service/telemetry/metrics.h"
#include "sluice/v1/control.grpc.pb.h"
#include "sluice/v1/inference.grpc.pb.h"
#include "tests/service/grpc/fake_backend.h"
#include "tests/service/grpc/fake_tokenizer.h"

namespace sluice::testing {

inline absl::Time MonotonicNow() {
  return absl::UnixEpoch() + absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

struct TestServerOptions {
  SchedulerOptions scheduler;
  GrpcServerOptions grpc;
  Tokens stream_capacity{4096};
  SamplingDefaults sampling;
  EngineOptions engine;
  std::string model_path;
  std::function<void(const RequestEnd&)> on_request_end;
  std::shared_ptr<AccessControl> access;  // null: everybody may do everything

  TestServerOptions() {
    scheduler.max_model_len = Tokens(4096);
    scheduler.geometry = {Tokens(16), Bytes(1024)};
    scheduler.device_blocks = Blocks(2048);
    grpc.port = 0;
  }
};

// What a client saw of one Generate call.
struct Answer {
  struct Sample {
    std::string text;
    std::vector<TokenId> ids;
    std::vector<v1::Logprobs> logprobs;
    std::optional<v1::Finished> finished;
    int outputs = 0;  // messages
  };
  std::vector<Sample> samples;
  grpc::Status status;
  bool in_order = true;  // no output after its sample's finished

  void Add(const v1::GenerateResponse& response) {
    const bool is_output = response.has_output();
    const uint32_t index = is_output ? response.output().index() : response.finished().index();
    if (samples.size() <= index) samples.resize(index + 1);
    Sample& sample = samples[index];
    if (sample.finished.has_value()) in_order = false;
    if (!is_output) {
      sample.finished = response.finished();
      return;
    }
    ++sample.outputs;
    sample.text += response.output().text();
    sample.ids.insert(sample.ids.end(), response.output().token_ids().begin(),
                      response.output().token_ids().end());
    sample.logprobs.insert(sample.logprobs.end(), response.output().logprobs().begin(),
                           response.output().logprobs().end());
  }
};

class TestServer {
 public:
  explicit TestServer(TestServerOptions options = TestServerOptions())
      : options_(std::move(options)),
        backend_(MakeInfo(options_), MonotonicNow),
        metrics_(backend_.info(), "fake"),
        scheduler_(options_.scheduler),
        loop_(scheduler_, backend_, &metrics_, MonotonicNow, options_.engine),
        engine_(std::make_unique<Engine>(loop_)) {
    auto server = GrpcServer::Start(options_.grpc, MakeContext());
    SLUICE_CHECK(server.ok());
    server_ = *std::move(server);
    channel_ = NewChannel();
    inference_ = v1::Inference::NewStub(channel_);
    control_ = v1::Control::NewStub(channel_);
    health_ = grpc::health::v1::Health::NewStub(channel_);
  }

  ~TestServer() {
    backend_.ReleaseSteps();
    backend_.set_step_time(absl::ZeroDuration());
    server_.reset();
    engine_.reset();
  }

  FakeBackend& backend() { return backend_; }
  Engine& engine() { return *engine_; }
  GrpcServer& server() { return *server_; }
  int port() const { return server_->port(); }
  Metrics& metrics() { return metrics_; }
  const FakeTokenizer& tokenizer() const { return tokenizer_; }
  v1::Inference::Stub& inference() { return *inference_; }
  v1::Control::Stub& control() { return *control_; }
  grpc::health::v1::Health::Stub& health() { return *health_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

  // A connection of its own.
  std::shared_ptr<grpc::Channel> NewChannel(grpc::ChannelArguments arguments = {}) const {
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    return grpc::CreateCustomChannel(server_->endpoint(), grpc::InsecureChannelCredentials(),
                                     arguments);
  }

  ServiceContext MakeContext() {
    ServiceContext context{*engine_, tokenizer_, metrics_, MonotonicNow, {}, {}, Tokens(0)};
    context.info.set_model("fake");
    context.info.set_model_path(options_.model_path);
    context.on_request_end = options_.on_request_end;
    context.access = options_.access.get();
    context.info.set_vocab_size(static_cast<uint32_t>(tokenizer_.vocab_size()));
    context.info.set_max_model_len(static_cast<uint32_t>(options_.scheduler.max_model_len.value()));
    context.info.add_eos_token_ids(FakeTokenizer::kEos);
    context.info.set_link_emulated(true);
    context.sampling_defaults = options_.sampling;
    context.stream_capacity = options_.stream_capacity;
    return context;
  }

  // The whole call.
  Answer Generate(const v1::GenerateRequest& request,
                  absl::Duration timeout = absl::InfiniteDuration()) {
    grpc::ClientContext context;
    if (timeout != absl::InfiniteDuration()) {
      context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    }
    return Read(&context, request);
  }

  Answer Read(grpc::ClientContext* context, const v1::GenerateRequest& request) {
    Answer answer;
    auto reader = inference_->Generate(context, request);
    v1::GenerateResponse response;
    while (reader->Read(&response)) answer.Add(response);
    answer.status = reader->Finish();
    return answer;
  }

  v1::Load Load() {
    grpc::ClientContext context;
    v1::Load load;
    const grpc::Status status = control_->GetLoad(&context, {}, &load);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return load;
  }

  // Asks for the load until `done` says so. False if that takes more than half a minute.
  bool WaitForLoad(const std::function<bool(const v1::Load&)>& done) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (absl::Now() < deadline) {
      if (done(Load())) return true;
      std::this_thread::yield();
    }
    return false;
  }

  // Somebody holds a block. (The load is as of the engine's last turn, so it lags a little.)
  bool WaitUntilUsed() {
    return WaitForLoad([](const v1::Load& load) { return load.device().referenced() > 0; });
  }

  // Nobody holds a block.
  bool WaitUntilFree() {
    return WaitForLoad([](const v1::Load& load) {
      return load.running() == 0 && load.waiting() == 0 && load.device().referenced() == 0 &&
             load.reserved_blocks() == 0;
    });
  }

 private:
  static BackendInfo MakeInfo(const TestServerOptions& options) {
    BackendInfo info;
    info.name = "fake";
    info.device = "none";
    info.dtype = "f32";
    info.geometry = options.scheduler.geometry;
    info.device_blocks = options.scheduler.device_blocks;
    info.host_blocks = options.scheduler.host_blocks;
    info.layers = 1;
    info.vocab_size = FakeTokenizer().vocab_size();
    return info;
  }

  const TestServerOptions options_;
  FakeTokenizer tokenizer_;
  FakeBackend backend_;
  Metrics metrics_;
  Scheduler scheduler_;
  EngineLoop loop_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Inference::Stub> inference_;
  std::unique_ptr<v1::Control::Stub> control_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

// A request for `max_tokens` tokens that does not stop earlier.
inline v1::GenerateRequest PlainRequest(const std::string& text, uint32_t max_tokens) {
  v1::GenerateRequest request;
  request.set_text(text);
  request.mutable_stopping()->set_max_tokens(max_tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  return request;
}

}  // namespace sluice::testing
