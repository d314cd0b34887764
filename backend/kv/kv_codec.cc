#include "backend/kv/kv_codec.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

constexpr int kFormatVersion = 1;
constexpr int64_t kWideGroup = 128;   // fp8, int8
constexpr int64_t kNarrowGroup = 32;  // int4

absl::Status CheckRange(const char* what, int64_t value, int64_t least, int64_t most,
                        int64_t multiple) {
  if (value >= least && value <= most && value % multiple == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("kv codec: ", what, " is ", value,
                                                 "; want a multiple of ", multiple, " in [", least,
                                                 ", ", most, "]"));
}

absl::Status CheckShape(const KvShape& shape) {
  SLUICE_RETURN_IF_ERROR(CheckRange("layers", shape.layers, 1, 1 << 16, 1));
  SLUICE_RETURN_IF_ERROR(CheckRange("block_tokens", shape.block_tokens, 16, 256, 16));
  SLUICE_RETURN_IF_ERROR(CheckRange("kv_heads", shape.kv_heads, 1, 1 << 16, 1));
  return CheckRange("head_dim", shape.head_dim, 2, 1024, 2);
}

std::string PlanName(char half, const CodecPlan& plan) {
  return absl::StrCat("-", std::string(1, half), plan.axis == KvScaleAxis::kToken ? "t" : "c",
                      plan.group);
}

CodecPlan MakePlan(const KvShape& shape, KvCodecKind kind, KvScaleAxis axis, int64_t group) {
  CodecPlan plan;
  plan.kind = kind;
  plan.axis = axis;
  plan.element = shape.element;
  plan.tokens = shape.block_tokens;
  plan.heads = shape.kv_heads;
  plan.dim = shape.head_dim;
  plan.group = group;
  return plan;
}

}  // namespace

std::string_view KvCodecKindName(KvCodecKind kind) {
  switch (kind) {
    case KvCodecKind::kRaw:
      return "raw";
    case KvCodecKind::kFp8:
      return "fp8";
    case KvCodecKind::kInt8:
      return "int8";
    case KvCodecKind::kInt4:
      return "int4";
  }
  return "?";
}

absl::StatusOr<KvCodecKind> ParseKvCodecKind(std::string_view name) {
  for (const KvCodecKind kind :
       {KvCodecKind::kRaw, KvCodecKind::kFp8, KvCodecKind::kInt8, KvCodecKind::kInt4}) {
    if (name == KvCodecKindName(kind)) return kind;
  }
  return absl::InvalidArgumentError(absl::StrCat("there is no KV codec \"", std::string(name),
                                                 "\"; want raw, fp8, int8 or int4"));
}

absl::StatusOr<KvCodec> KvCodec::Create(const KvShape& shape, const KvCodecOptions& options) {
  SLUICE_RETURN_IF_ERROR(CheckShape(shape));
  const KvCodecKind kind = options.kind;
  const bool int4 = kind == KvCodecKind::kInt4;
  const int64_t group = options.group != 0 ? options.group : int4 ? kNarrowGroup : kWideGroup;
  SLUICE_RETURN_IF_ERROR(CheckRange("group", group, 16, 256, 2));
  KvScaleAxis axis = options.key_axis;
  if (axis == KvScaleAxis::kDefault) axis = int4 ? KvScaleAxis::kChannel : KvScaleAxis::kToken;
  if (axis == KvScaleAxis::kChannel && kind == KvCodecKind::kFp8) {
    return absl::InvalidArgumentError(
        "kv codec: fp8 with key_axis channel; want token (its error hardly depends on the scale)");
  }
  KvCodec codec;
  codec.shape_ = shape;
  codec.kind_ = kind;
  codec.key_ = MakePlan(shape, kind, axis, group);
  codec.value_ = MakePlan(shape, kind, KvScaleAxis::kToken, group);
  codec.name_ = std::string(KvCodecKindName(kind));
  if (kind != KvCodecKind::kRaw) {
    codec.name_ += PlanName('k', codec.key_) + PlanName('v', codec.value_);
  }
  absl::StrAppend(&codec.name_, "-v", kFormatVersion);
  return codec;
}

absl::Status KvCodec::EncodeLayer(std::span<const std::byte> slice,
                                  std::span<std::byte> encoded) const {
  SLUICE_CHECK(slice.size() == shape_.slice_bytes().size());
  SLUICE_CHECK(encoded.size() == encoded_slice_bytes().size());
  if (kind_ == KvCodecKind::kRaw) {
    std::memcpy(encoded.data(), slice.data(), slice.size());
    return absl::OkStatus();
  }
  const size_t half = slice.size() / 2;
  const auto keys = static_cast<size_t>(key_.bytes());
  const bool keys_fit = EncodeHalf(key_, slice.data(), encoded.data());
  if (keys_fit && EncodeHalf(value_, slice.data() + half, encoded.data() + keys)) {
    return absl::OkStatus();
  }
  return absl::OutOfRangeError(absl::StrCat("kv codec ", name_, ": ", keys_fit ? "V" : "K",
                                            " has a number that is not finite or above 2^120; the "
                                            "block is not kept (raw would keep it)"));
}

void KvCodec::DecodeLayer(std::span<const std::byte> encoded, std::span<std::byte> slice,
                          bool stream) const {
  SLUICE_CHECK(slice.size() == shape_.slice_bytes().size());
  SLUICE_CHECK(encoded.size() == encoded_slice_bytes().size());
  if (kind_ == KvCodecKind::kRaw) {
    std::memcpy(slice.data(), encoded.data(), slice.size());
    return;
  }
  DecodeHalf(key_, encoded.data(), slice.data(), stream);
  DecodeHalf(value_, encoded.data() + key_.bytes(), slice.data() + slice.size() / 2, stream);
}

void KvCodec::DecodeHead(std::span<const std::byte> encoded, const KvHeadRows& rows) const {
  SLUICE_CHECK(decodes_heads() && encoded.size() == encoded_slice_bytes().size());
  SLUICE_CHECK(rows.first >= 0 && rows.first + rows.count <= shape_.block_tokens);
  SLUICE_CHECK(rows.head >= 0 && rows.head < shape_.kv_heads);
  DecodeHeadRows(key_, encoded.data(), rows.head, rows.first, rows.count, rows.keys,
                 rows.key_stride);
  DecodeHeadRows(value_, encoded.data() + key_.bytes(), rows.head, rows.first, rows.count,
                 rows.values, rows.value_stride);
}

}  // namespace sluice
