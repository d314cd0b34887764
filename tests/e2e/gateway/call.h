// An rpc with one request and any number of replies, as bytes.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/status.h"

namespace sluice::gateway {

using Metadata = std::vector<std::pair<std::string, std::string>>;

// A channel with the settings of a gateway's.
std::shared_ptr<grpc::Channel> Connect(const std::string& endpoint);

// Thread-compatible. Ends after two minutes at the latest.
class Call {
 public:
  // `method`: "/package.Service/Method".
  Call(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
       std::string_view request, const Metadata& metadata = {});
  ~Call();  // cancels, unless finished

  // Waits for the server's headers. False if the call ended without any.
  bool WaitForHeaders();
  // The next reply; nothing at the end.
  std::optional<std::string> Read();
  void Cancel() { context_.TryCancel(); }
  // What is left of the replies, then the status.
  grpc::Status Finish();

 private:
  bool Wait();

  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  grpc::GenericStub stub_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
  bool headers_ = false;
  bool ended_ = false;  // no reply will come
  bool finished_ = false;
};

// An rpc with one reply. Exits unless it succeeds.
std::string Ask(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                std::string_view request = "");

// The status of an rpc, whatever it replies.
grpc::Status StatusOf(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                      std::string_view request = "");

}  // namespace sluice::gateway
