// Bytes of an rpc to messages and back, and absl::Status to grpc::Status.
//
// The services read raw bytes and parse them here, because the generated callback handlers answer a
// request that does not parse with UNIMPLEMENTED; here it is INVALID_ARGUMENT and names the field.
//
// Stateless and thread-safe.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "google/protobuf/message.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/status.h"

namespace sluice {

// Parses `bytes` into `message`.
// Returns INVALID_ARGUMENT if they are no such message, or if a string field is not valid UTF-8
// (named, with the offset of its first bad byte).
absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message* message);
absl::Status ParseMessage(const std::string& bytes, google::protobuf::Message* message);

// The wire form of `message`.
// REQUIRES: its string fields are valid UTF-8, and it is smaller than 2 GiB.
grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message);

// The same code and text. RESOURCE_EXHAUSTED with a positive `retry_after` also carries
// google.rpc.RetryInfo in the `grpc-status-details-bin` trailer.
grpc::Status ToGrpcStatus(const absl::Status& status,
                          absl::Duration retry_after = absl::ZeroDuration());

}  // namespace sluice
