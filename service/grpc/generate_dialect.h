// GenerateDialect is the language of one Generate rpc: its bytes to a request of sluice.v1, and the
// messages of sluice.v1 to its bytes. Everything else a Generate rpc does is GenerateCall's.
//
// Thread-compatible; GenerateCall calls it under its lock.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "grpcpp/support/byte_buffer.h"
#include "service/grpc/wire.h"
#include "sluice/v1/inference.pb.h"

namespace sluice {

class GenerateCall;

// What is known of a sample before it ends.
struct SampleFacts {
  uint32_t prompt_tokens = 0;
  uint32_t cached_tokens = 0;  // 0 before the first token
};

class GenerateDialect {
 public:
  virtual ~GenerateDialect() = default;

  // For metrics and logs; a compile-time name.
  virtual const char* service() const = 0;

  // The request. Called once, before Write(). `call` stays valid until it ends.
  virtual absl::StatusOr<v1::GenerateRequest> Read(const grpc::ByteBuffer& bytes,
                                                   const std::weak_ptr<GenerateCall>& call) = 0;

  // What to send for `message`; nothing: it is not sent. A `finished` message is always sent; its
  // finish_reason is unspecified if the request was aborted.
  virtual std::optional<grpc::ByteBuffer> Write(const v1::GenerateResponse& message,
                                                const SampleFacts& facts) = 0;
};

// sluice.v1.Inference itself.
class NativeDialect final : public GenerateDialect {
 public:
  const char* service() const override { return "Inference"; }

  absl::StatusOr<v1::GenerateRequest> Read(const grpc::ByteBuffer& bytes,
                                           const std::weak_ptr<GenerateCall>& /*call*/) override {
    v1::GenerateRequest request;
    if (absl::Status parsed = ParseMessage(bytes, &request); !parsed.ok()) return parsed;
    return request;
  }

  std::optional<grpc::ByteBuffer> Write(const v1::GenerateResponse& message,
                                        const SampleFacts& /*facts*/) override {
    return SerializeMessage(message);
  }
};

}  // namespace sluice
