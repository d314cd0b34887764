#include "service/grpc/wire.h"

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/empty.pb.h"
#include "google/protobuf/stubs/logging.h"
#include "google/protobuf/unknown_field_set.h"
#include "google/rpc/retry_info.pb.h"
#include "grpcpp/support/slice.h"
#include "scheduler/base/check.h"
#include "service/tokenizer/utf8.h"

namespace sluice {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::UnknownField;
using google::protobuf::UnknownFieldSet;

// The first string field below `type` that is not UTF-8, as "path: what is wrong"; empty if none.
// Only runs on requests that did not parse. Depth is bounded by the depth of our own types.
std::string FindInvalidUtf8(const UnknownFieldSet& fields, const Descriptor& type,
                            const std::string& prefix) {
  for (int i = 0; i < fields.field_count(); ++i) {
    const UnknownField& value = fields.field(i);
    const FieldDescriptor* field = type.FindFieldByNumber(value.number());
    if (field == nullptr || value.type() != UnknownField::TYPE_LENGTH_DELIMITED) continue;
    const std::string& bytes = value.length_delimited();
    const std::string path = absl::StrCat(prefix, field->name());
    if (field->type() == FieldDescriptor::TYPE_STRING) {
      const size_t valid = ValidUtf8Prefix(bytes);
      if (valid != bytes.size()) {
        return absl::StrCat(path, ": byte ", valid, " of ", bytes.size(), " is not valid UTF-8");
      }
    } else if (field->type() == FieldDescriptor::TYPE_MESSAGE) {
      UnknownFieldSet inner;
      if (!inner.ParseFromString(bytes)) return absl::StrCat(path, ": bytes do not parse");
      std::string found = FindInvalidUtf8(inner, *field->message_type(), absl::StrCat(path, "."));
      if (!found.empty()) return found;
    }
  }
  return "";
}

// Why `bytes` are not a message of `type`.
std::string DescribeParseFailure(const std::string& bytes, const Descriptor& type) {
  UnknownFieldSet fields;
  if (fields.ParseFromString(bytes)) {
    std::string found = FindInvalidUtf8(fields, type, "");
    if (!found.empty()) return found;
  }
  return absl::StrCat("request: its ", bytes.size(), " bytes are not a ",
                      std::string(type.full_name()), " message; encode it from proto/sluice/v1");
}

}  // namespace

absl::Status ParseMessage(const std::string& bytes, google::protobuf::Message* message) {
  // Protobuf would write a line to stderr for every bad string a client sends.
  const google::protobuf::LogSilencer silence;
  if (message->ParseFromString(bytes)) return absl::OkStatus();
  return absl::InvalidArgumentError(DescribeParseFailure(bytes, *message->GetDescriptor()));
}

absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message* message) {
  std::vector<grpc::Slice> slices;
  // An invalid buffer means a call without any message; a broken one fails to decompress.
  if (!bytes.Valid() || !bytes.Dump(&slices).ok()) {
    return absl::InvalidArgumentError("request: the call carries no readable message; send one");
  }
  std::string flat;
  flat.reserve(bytes.Length());
  for (const grpc::Slice& slice : slices) {
    flat.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return ParseMessage(flat, message);
}

grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message) {
  const size_t size = message.ByteSizeLong();
  SLUICE_CHECK(size < (size_t{1} << 31));
  grpc_slice slice = grpc_slice_malloc(size);
  message.SerializeWithCachedSizesToArray(GRPC_SLICE_START_PTR(slice));
  const grpc::Slice owned(slice, grpc::Slice::STEAL_REF);
  return grpc::ByteBuffer(&owned, 1);
}

grpc::Status ToGrpcStatus(const absl::Status& status, absl::Duration retry_after) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const std::string text(status.message());
  if (!absl::IsResourceExhausted(status) || retry_after <= absl::ZeroDuration()) {
    return grpc::Status(code, text);
  }
  google::rpc::RetryInfo retry;
  const int64_t ns = absl::ToInt64Nanoseconds(retry_after);
  retry.mutable_retry_delay()->set_seconds(ns / 1'000'000'000);
  retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(ns % 1'000'000'000));
  google::rpc::Status details;
  details.set_code(static_cast<int32_t>(code));
  details.set_message(text);
  details.add_details()->PackFrom(retry);
  return grpc::Status(code, text, details.SerializeAsString());
}

}  // namespace sluice
