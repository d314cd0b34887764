#include "backend/cpu/slice_product.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "backend/cpu/huge_buffer.h"

namespace sluice {
namespace {

constexpr int64_t kRows = 64;

// Random x and W of a product's shape, with room for results.
class Probe {
 public:
  explicit Probe(SliceProduct& product) : product_(product), shape_(product.shape()) {
    std::minstd_rand random(1);
    std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
    std::vector<float> weights(static_cast<size_t>(shape_.outputs * shape_.inputs));
    for (float& w : weights) w = uniform(random);
    wide_.resize(static_cast<size_t>(kRows * shape_.inputs));
    for (float& x : wide_) x = uniform(random);
    narrow_.resize(wide_.size());
    std::transform(wide_.begin(), wide_.end(), narrow_.begin(), FloatToBF16);
    auto packed =
        HugeBuffer::Allocate(Bytes(static_cast<int64_t>(product.packed_bytes())), "a probe");
    ok_ = packed.ok();
    if (!ok_) return;
    packed_ = *std::move(packed);
    ok_ = product.Pack(weights.data(), packed_.data()).ok();
  }

  // Rows [first, first + rows) of y, or nothing if that cannot be had.
  std::vector<float> Multiply(int64_t first, int64_t rows) {
    const auto scratch_bytes = product_.Prepare(rows);
    if (!ok_ || !scratch_bytes.ok()) return {};
    auto scratch = HugeBuffer::Allocate(Bytes(static_cast<int64_t>(*scratch_bytes)), "a probe");
    if (!scratch.ok()) return {};
    std::vector<float> y(static_cast<size_t>(kRows * shape_.outputs));
    const int64_t at = first * shape_.inputs;
    const void* x = shape_.element == Element::kF32 ? static_cast<const void*>(wide_.data() + at)
                                                    : static_cast<const void*>(narrow_.data() + at);
    if (!product_.Multiply(x, rows, packed_.data(), y.data(), scratch->data(), 0)) return {};
    y.resize(static_cast<size_t>(rows * shape_.outputs));
    return y;
  }

 private:
  SliceProduct& product_;
  SliceShape shape_;
  bool ok_ = false;
  std::vector<float> wide_;
  std::vector<uint16_t> narrow_;
  HugeBuffer packed_;
};

}  // namespace

bool RowsAreIndependent(SliceProduct& product) {
  Probe probe(product);
  const std::vector<float> all = probe.Multiply(0, kRows);
  if (all.empty()) return false;
  for (const int64_t rows : {1, 2, 3, 5, 8, 13, 16, 32, 48}) {
    for (const int64_t first : {int64_t{0}, (kRows - rows) / 16 * 16}) {
      const std::vector<float> some = probe.Multiply(first, rows);
      if (some.empty()) return false;
      const float* want = all.data() + first * product.shape().outputs;
      if (std::memcmp(some.data(), want, some.size() * sizeof(float)) != 0) return false;
    }
  }
  return true;
}

}  // namespace sluice
