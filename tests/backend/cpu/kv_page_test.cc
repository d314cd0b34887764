// Whole pages between the pools, against element by element, on every instruction set of this CPU:
// random shapes, aligned or not, past the caches or not.
#include <cstring>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/cpu/kv_layout.h"
#include "gtest/gtest.h"
#include "tests/backend/cpu/highway_targets.h"

namespace sluice {
namespace {

using testing::ForEachHighwayTarget;

constexpr size_t kGuard = 192;

// Memory at a chosen offset from a cache line, with guards of known bytes on both sides.
class Guarded {
 public:
  Guarded(int64_t bytes, size_t offset, std::byte fill)
      : bytes_(static_cast<size_t>(bytes)), memory_(bytes_ + 2 * kGuard + 128, fill), fill_(fill) {
    const auto at = reinterpret_cast<uintptr_t>(memory_.data()) + kGuard;
    before_ = kGuard + (64 - at % 64) % 64 + offset;
  }
  std::byte* data() { return memory_.data() + before_; }
  std::vector<std::byte> Bytes() { return {data(), data() + bytes_}; }
  void Set(const std::vector<std::byte>& bytes) { std::copy(bytes.begin(), bytes.end(), data()); }
  bool GuardsHold() const {
    for (size_t i = 0; i < memory_.size(); ++i) {
      const bool inside = i >= before_ && i < before_ + bytes_;
      if (!inside && memory_[i] != fill_) return false;
    }
    return true;
  }

 private:
  size_t bytes_;
  std::vector<std::byte> memory_;
  std::byte fill_;
  size_t before_;
};

// Where element (token, head, dim) of K or V lies in a page and in a layer slice, in bytes.
struct Place {
  int64_t page;
  int64_t host;
};
Place PlaceOf(const KvLayout& l, bool value, int64_t token, int64_t head, int64_t dim) {
  const int64_t size = l.element_bytes();
  const int64_t per_unit = 4 / size;
  const int64_t in_head =
      value ? l.key_bytes() + (token * l.value_stride() + dim) * size
            : (dim / per_unit * l.page_tokens + token) * 4 + dim % per_unit * size;
  return {
      head * l.head_bytes() + in_head,
      (value ? l.host_half_bytes() : 0) + ((token * l.kv_heads + head) * l.head_dim + dim) * size};
}

struct Sides {
  std::vector<std::byte> page;  // padding of V is zero
  std::vector<std::byte> host;
};

Sides RandomSides(const KvLayout& l, std::mt19937_64& random) {
  Sides sides{std::vector<std::byte>(static_cast<size_t>(l.page_bytes())),
              std::vector<std::byte>(static_cast<size_t>(l.host_layer_bytes()))};
  for (const bool value : {false, true}) {
    for (int64_t t = 0; t < l.page_tokens; ++t) {
      for (int64_t h = 0; h < l.kv_heads; ++h) {
        for (int64_t d = 0; d < l.head_dim; ++d) {
          const uint64_t bits = random();
          const Place place = PlaceOf(l, value, t, h, d);
          std::memcpy(sides.page.data() + place.page, &bits,
                      static_cast<size_t>(l.element_bytes()));
          std::memcpy(sides.host.data() + place.host, &bits,
                      static_cast<size_t>(l.element_bytes()));
        }
      }
    }
  }
  return sides;
}

class KvPageTest : public ::testing::TestWithParam<int> {};

TEST_P(KvPageTest, BothWaysEveryElementIsInItsPlaceAndNoOtherByteIsTouched) {
  const auto seed = static_cast<uint64_t>(GetParam());
  std::mt19937_64 random(seed);
  const auto pick = [&](std::vector<int64_t> choices) {
    return choices[random() % choices.size()];
  };
  KvLayout layout{Element::kF32, 1, pick({1, 2, 3, 8}), pick({2, 16, 18, 32, 48, 64, 80, 96, 128}),
                  pick({16, 32, 48, 64})};
  if (random() % 2 == 0) layout.element = Element::kBF16;
  const auto page_offset = static_cast<size_t>(pick({0, 0, 16, 4}));
  const auto host_offset = static_cast<size_t>(pick({0, 0, 32, 4}));
  SCOPED_TRACE(absl::StrCat("seed ", seed, layout.element == Element::kF32 ? " f32 " : " bf16 ",
                            layout.kv_heads, " heads of ", layout.head_dim, ", ",
                            layout.page_tokens, " tokens, offsets ", page_offset, ", ",
                            host_offset));
  const Sides want = RandomSides(layout, random);
  const Sides other = RandomSides(layout, random);
  ForEachHighwayTarget([&] {
    for (const bool stream : {false, true}) {
      for (const bool ahead : {false, true}) {
        Guarded page(layout.page_bytes(), page_offset, std::byte{0xa5});
        Guarded host(layout.host_layer_bytes(), host_offset, std::byte{0x5a});
        page.Set(want.page);
        StorePage(layout, page.data(), host.data(), {stream, ahead ? other.page.data() : nullptr});
        ASSERT_EQ(host.Bytes(), want.host);
        ASSERT_TRUE(host.GuardsHold());
        ASSERT_EQ(page.Bytes(), want.page);
        // Back into a page that holds something else; its padding is zero.
        page.Set(other.page);
        LoadPage(layout, host.data(), page.data(), {stream, ahead ? other.host.data() : nullptr});
        ASSERT_EQ(page.Bytes(), want.page);
        ASSERT_TRUE(page.GuardsHold());
        ASSERT_EQ(host.Bytes(), want.host);
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Seeds, KvPageTest, ::testing::Range(1, 61),
                         [](const auto& seed) { return absl::StrCat("seed", seed.param); });

}  // namespace
}  // namespace sluice
