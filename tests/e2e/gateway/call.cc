#include "tests/e2e/gateway/call.h"

#include <chrono>

#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "tests/e2e/gateway/check.h"

namespace sluice::gateway {

std::shared_ptr<grpc::Channel> Connect(const std::string& endpoint) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(endpoint, grpc::InsecureChannelCredentials(), arguments);
}

Call::Call(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
           std::string_view request, const Metadata& metadata)
    : stub_(channel) {
  context_.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(2));
  for (const auto& [key, value] : metadata) context_.AddMetadata(key, value);
  stream_ = stub_.PrepareCall(&context_, method, &queue_);
  stream_->StartCall(nullptr);
  if (!Wait()) {
    ended_ = true;
    return;
  }
  const grpc::Slice slice(request.data(), request.size());
  stream_->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
  Wait();  // a server that has refused already does not take it; Read() will tell
}

Call::~Call() {
  if (finished_) return;
  Cancel();
  Finish();
}

bool Call::Wait() {
  void* tag = nullptr;
  bool ok = false;
  return queue_.Next(&tag, &ok) && ok;
}

bool Call::WaitForHeaders() {
  stream_->ReadInitialMetadata(nullptr);
  headers_ = Wait();
  return headers_;
}

std::optional<std::string> Call::Read() {
  if (ended_) return std::nullopt;
  grpc::ByteBuffer buffer;
  stream_->Read(&buffer, nullptr);
  if (!Wait()) {
    ended_ = true;
    return std::nullopt;
  }
  std::vector<grpc::Slice> slices;
  Check(buffer.Dump(&slices).ok(), "a reply cannot be read");
  std::string bytes;
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

grpc::Status Call::Finish() {
  while (Read().has_value()) {
  }
  grpc::Status status;
  stream_->Finish(&status, nullptr);
  Wait();
  finished_ = true;
  return status;
}

std::string Ask(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                std::string_view request) {
  Call call(channel, method, request);
  const std::optional<std::string> reply = call.Read();
  const grpc::Status status = call.Finish();
  Check(status.ok(), method + ": " + status.error_message());
  Check(reply.has_value(), method + ": OK without a reply");
  return *reply;
}

grpc::Status StatusOf(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                      std::string_view request) {
  Call call(channel, method, request);
  return call.Finish();
}

}  // namespace sluice::gateway
