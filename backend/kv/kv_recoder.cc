#include "backend/kv/kv_recoder.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

// Stores of raw blocks have always been called that.
std::string NameOf(const KvCodec& codec) {
  return codec.kind() == KvCodecKind::kRaw ? "raw" : codec.name();
}

absl::Status Recode(const KvCodec& from, std::span<const std::byte> in, const KvCodec& to,
                    std::span<std::byte> out, std::vector<std::byte>& plain) {
  SLUICE_CHECK(in.size() == from.encoded_block_bytes().size());
  SLUICE_CHECK(out.size() == to.encoded_block_bytes().size());
  const size_t in_bytes = from.encoded_slice_bytes().size();
  const size_t out_bytes = to.encoded_slice_bytes().size();
  plain.resize(from.shape().slice_bytes().size());
  for (size_t layer = 0; layer < static_cast<size_t>(from.shape().layers); ++layer) {
    const std::span<const std::byte> coded = in.subspan(layer * in_bytes, in_bytes);
    const std::span<std::byte> target = out.subspan(layer * out_bytes, out_bytes);
    if (from.kind() == KvCodecKind::kRaw) {
      SLUICE_RETURN_IF_ERROR(to.EncodeLayer(coded, target));
    } else if (to.kind() == KvCodecKind::kRaw) {
      from.DecodeLayer(coded, target, /*stream=*/true);
    } else {
      from.DecodeLayer(coded, plain);
      SLUICE_RETURN_IF_ERROR(to.EncodeLayer(plain, target));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<KvRecoder> KvRecoder::Create(const KvShape& shape, KvCodecKind host,
                                            KvCodecKind stored) {
  const bool smaller = stored == KvCodecKind::kInt4 || host == KvCodecKind::kRaw;
  if (stored != host && !smaller) {
    const std::string on_host(KvCodecKindName(host));
    return absl::InvalidArgumentError(
        absl::StrCat("a store of ", std::string(KvCodecKindName(stored)), " behind a host pool of ",
                     on_host, " keeps nothing that ", on_host, " has not lost; want ", on_host,
                     " or int4, or a host pool of raw"));
  }
  KvCodecOptions options;
  options.kind = host;
  SLUICE_ASSIGN_OR_RETURN(KvCodec host_codec, KvCodec::Create(shape, options));
  options.kind = stored;
  SLUICE_ASSIGN_OR_RETURN(KvCodec stored_codec, KvCodec::Create(shape, options));
  return KvRecoder(std::move(host_codec), std::move(stored_codec));
}

std::string KvRecoder::name() const {
  const bool once = same() || host_.kind() == KvCodecKind::kRaw;
  return once ? NameOf(stored_) : absl::StrCat(NameOf(host_), "+", NameOf(stored_));
}

absl::Status KvRecoder::ToStored(std::span<const std::byte> host, std::span<std::byte> stored,
                                 std::vector<std::byte>& plain) const {
  return Recode(host_, host, stored_, stored, plain);
}

absl::Status KvRecoder::ToHost(std::span<const std::byte> stored, std::span<std::byte> host,
                               std::vector<std::byte>& plain) const {
  return Recode(stored_, stored, host_, host, plain);
}

}  // namespace sluice
