#include "backend/cpu/kv_layout.h"

#include <cstring>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

std::vector<KvLayout> Layouts() {
  std::vector<KvLayout> layouts;
  for (const Element element : {Element::kF32, Element::kBF16}) {
    for (const int64_t dim : {2, 8, 18, 40, 64, 96, 256}) {
      for (const int64_t page : {16, 48, 256}) layouts.push_back({element, 2, 3, dim, page});
    }
  }
  return layouts;
}

std::string Name(const KvLayout& l) {
  return absl::StrCat(l.element == Element::kF32 ? "f32" : "bf16", " dim ", l.head_dim, " page ",
                      l.page_tokens);
}

// One page filled token by token, and the K and V that went in: [token][kv_head][dim].
struct FilledPage {
  explicit FilledPage(const KvLayout& layout) : page(static_cast<size_t>(layout.page_bytes())) {
    std::mt19937_64 random(9);
    std::normal_distribution<float> normal;
    const auto count = static_cast<size_t>(layout.page_tokens * layout.kv_heads * layout.head_dim);
    for (size_t i = 0; i < count; ++i) {
      key.push_back(normal(random));
      value.push_back(normal(random));
    }
    for (int64_t t = 0; t < layout.page_tokens; ++t) {
      for (int64_t h = 0; h < layout.kv_heads; ++h) {
        const int64_t at = (t * layout.kv_heads + h) * layout.head_dim;
        WriteToken(layout, key.data() + at, value.data() + at,
                   page.data() + h * layout.head_bytes(), t);
      }
    }
  }
  std::vector<std::byte> page;
  std::vector<float> key;
  std::vector<float> value;
};

TEST(KvLayoutTest, TheHostHoldsTokensHeadsAndDimensionsInOrder) {
  for (const KvLayout& layout : Layouts()) {
    SCOPED_TRACE(Name(layout));
    const FilledPage filled(layout);
    std::vector<std::byte> host(static_cast<size_t>(layout.host_layer_bytes()));
    StorePage(layout, filled.page.data(), host.data());
    const auto element = [&](int64_t i) {
      if (layout.element == Element::kF32) return reinterpret_cast<const float*>(host.data())[i];
      return BF16ToFloat(reinterpret_cast<const uint16_t*>(host.data())[i]);
    };
    const auto rounded = [&](float v) {
      return layout.element == Element::kF32 ? v : BF16ToFloat(FloatToBF16(v));
    };
    const auto half = static_cast<int64_t>(filled.key.size());
    for (int64_t i = 0; i < half; ++i) {
      ASSERT_EQ(element(i), rounded(filled.key[static_cast<size_t>(i)])) << "K " << i;
      ASSERT_EQ(element(half + i), rounded(filled.value[static_cast<size_t>(i)])) << "V " << i;
    }
  }
}

TEST(KvLayoutTest, StoreThenLoadRestoresThePage) {
  for (const KvLayout& layout : Layouts()) {
    SCOPED_TRACE(Name(layout));
    const FilledPage filled(layout);
    std::vector<std::byte> host(static_cast<size_t>(layout.host_layer_bytes()));
    StorePage(layout, filled.page.data(), host.data());
    std::vector<std::byte> page(filled.page.size());
    LoadPage(layout, host.data(), page.data());
    ASSERT_EQ(page, filled.page);
  }
}

TEST(KvLayoutTest, BlockBytesAreKAndVOfAllLayers) {
  const KvLayout layout{Element::kBF16, 12, 4, 80, 32};
  EXPECT_EQ(layout.block_bytes(), Bytes(2 * 12 * 4 * 80 * 32 * 2));
}

TEST(KvPoolsTest, PagesOfDifferentBlocksAndLayersDoNotOverlap) {
  const KvLayout layout{Element::kBF16, 3, 2, 18, 16};
  const auto pools = KvPools::Allocate(layout, Blocks(4), Blocks(5));
  ASSERT_THAT(pools, testing::IsOk());
  std::vector<std::byte*> device;
  std::vector<std::byte*> host;
  for (int64_t layer = 0; layer < 3; ++layer) {
    for (int32_t b = 0; b < 4; ++b) device.push_back(pools->Page(layer, BlockId(b)));
    for (int32_t b = 0; b < 5; ++b) host.push_back(pools->HostLayer(layer, BlockId(b)));
  }
  for (auto* starts : {&device, &host}) std::sort(starts->begin(), starts->end());
  for (size_t i = 1; i < device.size(); ++i) {
    EXPECT_GE(device[i] - device[i - 1], layout.page_bytes());
  }
  for (size_t i = 1; i < host.size(); ++i) {
    EXPECT_GE(host[i] - host[i - 1], layout.host_layer_bytes());
  }
}

TEST(KvPoolsTest, APoolLargerThanTheMachineIsRefusedByName) {
  const KvLayout layout{Element::kBF16, 64, 128, 256, 256};
  EXPECT_THAT(KvPools::Allocate(layout, Blocks(1 << 20), Blocks(0)),
              testing::StatusIs(absl::StatusCode::kResourceExhausted,
                                ::testing::HasSubstr("device KV pool")));
  EXPECT_THAT(KvPools::Allocate(layout, Blocks(0), Blocks(1 << 20)),
              testing::StatusIs(absl::StatusCode::kResourceExhausted,
                                ::testing::HasSubstr("host KV pool")));
}

}  // namespace
}  // namespace sluice
