// Paged attention against a double-precision reference, on every instruction set of this CPU, and
// its independence of tiles, chunks and of the pool a block lies in.
#include "backend/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/backend/cpu/highway_targets.h"

namespace sluice {
namespace {

using testing::ForEachHighwayTarget;

struct Problem {
  Element element = Element::kF32;
  int64_t head_dim = 16;
  int64_t kv_heads = 2;
  int64_t group = 2;
  int64_t page_tokens = 16;
  int64_t context = 37;  // tokens in all
  int64_t queries = 5;   // the last of them
};

std::string Name(const Problem& p) {
  return absl::StrCat(p.element == Element::kF32 ? "f32" : "bf16", " dim ", p.head_dim, " heads ",
                      p.kv_heads, "x", p.group, " page ", p.page_tokens, " context ", p.context,
                      " queries ", p.queries);
}

// Random queries, keys and values, with the keys and values also in a paged pool. Slots beyond the
// context hold NaN, as if another sequence had left it there.
class Scene {
 public:
  explicit Scene(const Problem& p, uint64_t seed = 1) : p_(p) {
    layout_ = {p.element, 1, p.kv_heads, p.head_dim, p.page_tokens};
    std::mt19937_64 random(seed);
    const int64_t pages = (p.context + p.page_tokens - 1) / p.page_tokens;
    for (int32_t b = 0; b < 2 * pages; ++b) blocks_.push_back(BlockId(b));
    std::shuffle(blocks_.begin(), blocks_.end(), random);
    pool_.resize(static_cast<size_t>(2 * pages * layout_.page_bytes()), std::byte{0xff});

    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& v, int64_t n, float scale) {
      v.resize(static_cast<size_t>(n));
      for (float& x : v) x = normal(random) * scale;
    };
    fill(key_, p.context * p.kv_heads * p.head_dim, 1.0F);
    fill(value_, p.context * p.kv_heads * p.head_dim, 1.0F);
    fill(query_, p.context * heads() * p.head_dim, 2.0F);
    for (int64_t t = 0; t < p.context; ++t) {
      std::byte* page = pool_.data() + blocks_[static_cast<size_t>(t / p.page_tokens)].value() *
                                           layout_.page_bytes();
      for (int64_t h = 0; h < p.kv_heads; ++h) {
        const int64_t at = (t * p.kv_heads + h) * p.head_dim;
        WriteToken(layout_, key_.data() + at, value_.data() + at, page + h * layout_.head_bytes(),
                   t % p.page_tokens);
      }
    }
  }

  // Moves every leading block that `wanted` says, and that is before the first query, to the host;
  // its page is overwritten with NaN. Returns how many there were.
  template <class Fn>
  int MoveToHost(const Fn& wanted, KvCodecKind kind = KvCodecKind::kRaw) {
    const int64_t full = (p_.context - p_.queries) / p_.page_tokens;
    UseCodec(kind);
    const auto plain_bytes = static_cast<size_t>(layout_.host_layer_bytes());
    const size_t each = codec_.has_value() ? codec_->encoded_block_bytes().size() : plain_bytes;
    // Two spare blocks, which nothing may read.
    host_pool_.assign(static_cast<size_t>(full + 2) * each, std::byte{0xff});
    int moved = 0;
    for (int64_t b = 0; b < full; ++b) {
      host_blocks_.emplace_back();
      BlockId& block = blocks_[static_cast<size_t>(b)];
      if (!wanted(b)) continue;
      ++moved;
      host_blocks_.back() = BlockId(static_cast<int32_t>(full - b));  // 1 to full, backwards
      std::byte* page = pool_.data() + block.value() * layout_.page_bytes();
      std::byte* host = host_pool_.data() + host_blocks_.back().index() * each;
      std::vector<std::byte> plain(plain_bytes);
      StorePage(layout_, page, plain.data());
      if (codec_.has_value()) {
        EXPECT_TRUE(codec_->EncodeLayer(plain, {host, each}).ok());
      } else {
        std::copy(plain.begin(), plain.end(), host);
      }
      std::fill_n(page, layout_.page_bytes(), std::byte{0xff});
      block = BlockId();
    }
    return moved;
  }

  // Rounds the same blocks where they are, as the codec would. Returns how many there were.
  template <class Fn>
  int RoundBlocks(KvCodecKind kind, const Fn& wanted) {
    UseCodec(kind);
    std::vector<std::byte> plain(static_cast<size_t>(layout_.host_layer_bytes()));
    std::vector<std::byte> coded(codec_->encoded_slice_bytes().size());
    int rounded = 0;
    for (int64_t b = 0; b < (p_.context - p_.queries) / p_.page_tokens; ++b) {
      if (!wanted(b)) continue;
      ++rounded;
      std::byte* page =
          pool_.data() + blocks_[static_cast<size_t>(b)].value() * layout_.page_bytes();
      StorePage(layout_, page, plain.data());
      EXPECT_TRUE(codec_->EncodeLayer(plain, coded).ok());
      codec_->DecodeLayer(coded, plain);
      LoadPage(layout_, plain.data(), page);
    }
    return rounded;
  }

  int64_t heads() const { return p_.kv_heads * p_.group; }
  int64_t width() const { return heads() * p_.head_dim; }

  // Output of the last `queries` tokens, [token][head][dim], computed in tiles of `tile_rows` rows
  // and chunks of `chunk` tokens.
  std::vector<float> Attend(int64_t tile_rows, int64_t chunk) const {
    AttentionScratch scratch(layout_);
    std::vector<float> wide(static_cast<size_t>(p_.queries * width()));
    std::vector<uint16_t> narrow(wide.size());
    void* out = p_.element == Element::kF32 ? static_cast<void*>(wide.data()) : narrow.data();
    for (int64_t begin = 0; begin < p_.queries; begin += chunk) {
      const int64_t count = std::min(chunk, p_.queries - begin);
      AttentionInput in;
      in.layout = &layout_;
      in.pages = pool_.data();
      in.blocks = blocks_;
      in.host_blocks = host_blocks_;
      in.host = host_pool_.data();
      in.host_codec = codec_.has_value() && !host_blocks_.empty() ? &*codec_ : nullptr;
      in.group = p_.group;
      in.first = p_.context - p_.queries + begin;
      in.queries = query_.data() + in.first * width();
      in.query_stride = width();
      in.out = static_cast<std::byte*>(out) + begin * width() * layout_.element_bytes();
      in.out_stride = width();
      for (int64_t h = 0; h < p_.kv_heads; ++h) {
        for (int64_t row = 0; row < count * p_.group; row += tile_rows) {
          AttendTile(in, h, row, std::min(tile_rows, count * p_.group - row), scratch);
        }
      }
    }
    if (p_.element == Element::kBF16) {
      std::transform(narrow.begin(), narrow.end(), wide.begin(), BF16ToFloat);
    }
    return wide;
  }

  std::vector<double> Reference() const {
    std::vector<double> out;
    const auto rounded = [&](float v) {
      return static_cast<double>(p_.element == Element::kF32 ? v : BF16ToFloat(FloatToBF16(v)));
    };
    for (int64_t t = p_.context - p_.queries; t < p_.context; ++t) {
      for (int64_t h = 0; h < heads(); ++h) {
        std::vector<double> weights;
        double total = 0;
        for (int64_t j = 0; j <= t; ++j) {
          double dot = 0;
          for (int64_t d = 0; d < p_.head_dim; ++d) {
            dot += static_cast<double>(
                       query_[static_cast<size_t>((t * heads() + h) * p_.head_dim + d)]) *
                   rounded(key_[KvIndex(j, h, d)]);
          }
          weights.push_back(std::exp(dot / std::sqrt(static_cast<double>(p_.head_dim))));
          total += weights.back();
        }
        for (int64_t d = 0; d < p_.head_dim; ++d) {
          double sum = 0;
          for (int64_t j = 0; j <= t; ++j) {
            sum += weights[static_cast<size_t>(j)] * rounded(value_[KvIndex(j, h, d)]);
          }
          out.push_back(sum / total);
        }
      }
    }
    return out;
  }

 private:
  void UseCodec(KvCodecKind kind) {
    if (kind == KvCodecKind::kRaw) return;
    KvCodecOptions options;
    options.kind = kind;
    codec_ = *KvCodec::Create(ShapeOf(layout_), options);
  }

  size_t KvIndex(int64_t token, int64_t head, int64_t d) const {
    return static_cast<size_t>((token * p_.kv_heads + head / p_.group) * p_.head_dim + d);
  }

  Problem p_;
  KvLayout layout_;
  std::vector<BlockId> blocks_;
  std::vector<std::byte> pool_;
  std::vector<BlockId> host_blocks_;
  std::vector<std::byte> host_pool_;
  std::optional<KvCodec> codec_;  // of the host pool
  std::vector<float> key_;
  std::vector<float> value_;
  std::vector<float> query_;
};

void ExpectMatchesReference(const Problem& p) {
  SCOPED_TRACE(Name(p));
  const Scene scene(p);
  const std::vector<float> got = scene.Attend(kAttentionTileRows, p.queries);
  const std::vector<double> want = scene.Reference();
  // bf16: the output itself is rounded, to 2^-9 of its size.
  const double relative = p.element == Element::kF32 ? 2e-6 : 4e-3;
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(got[i]), want[i], 1e-5 + relative * std::abs(want[i])) << i;
  }
}

TEST(AttentionTest, MatchesTheReferenceForEveryHeadDimensionAndPageSize) {
  ForEachHighwayTarget([] {
    for (const Element element : {Element::kF32, Element::kBF16}) {
      for (const int64_t dim : {2, 8, 16, 18, 24, 40, 64, 80, 96, 128, 256}) {
        for (const int64_t page : {16, 32, 48, 256}) {
          ExpectMatchesReference({element, dim, 2, 2, page, 101, 7});
        }
      }
    }
  });
}

TEST(AttentionTest, MatchesTheReferenceForEveryGroupSize) {
  ForEachHighwayTarget([] {
    for (const Element element : {Element::kF32, Element::kBF16}) {
      for (int64_t group = 1; group <= 8; ++group) {
        ExpectMatchesReference({element, 40, 2, group, 32, 67, 11});
      }
      ExpectMatchesReference({element, 16, 1, 71, 16, 23, 3});
    }
  });
}

TEST(AttentionTest, MatchesTheReferenceForEveryShortContext) {
  ForEachHighwayTarget([] {
    for (int64_t context = 1; context <= 40; ++context) {
      ExpectMatchesReference({Element::kBF16, 8, 1, 3, 16, context, context});
    }
  });
}

TEST(AttentionTest, TilesAndChunksDoNotChangeABit) {
  ForEachHighwayTarget([] {
    for (const Element element : {Element::kF32, Element::kBF16}) {
      for (const int64_t page : {16, 48, 256}) {
        const Problem p{element, 80, 2, 3, page, 131, 101};
        SCOPED_TRACE(Name(p));
        const Scene scene(p);
        const std::vector<float> want = scene.Attend(1, 1);
        for (const auto& [rows, chunk] :
             {std::pair<int64_t, int64_t>{32, 101}, {32, 1}, {7, 101}, {5, 13}, {31, 64}, {2, 3}}) {
          ASSERT_EQ(scene.Attend(rows, chunk), want) << rows << " rows, chunks of " << chunk;
        }
      }
    }
  });
}

// In place: every block on the host, every other one, and all but the first few.
TEST(AttentionTest, BlocksOnTheHostGiveTheSameBits) {
  ForEachHighwayTarget([] {
    for (const Element element : {Element::kF32, Element::kBF16}) {
      for (const int64_t dim : {2, 18, 64, 80, 128}) {
        for (const int64_t page : {16, 48, 256}) {
          if (page == 256 && dim != 80) continue;
          const Problem p{element, dim, 2, 3, page, 2 * page + 25, 21};
          SCOPED_TRACE(Name(p));
          const std::vector<float> want = Scene(p).Attend(kAttentionTileRows, p.queries);
          for (int pattern = 0; pattern < 3; ++pattern) {
            Scene scene(p);
            const int moved = scene.MoveToHost([&](int64_t block) {
              return pattern == 0 || (pattern == 1 && block % 2 == 0) ||
                     (pattern == 2 && block > 0);
            });
            ASSERT_GT(moved, 0);
            ASSERT_EQ(scene.Attend(kAttentionTileRows, p.queries), want) << "pattern " << pattern;
            if (pattern == 1) {
              ASSERT_EQ(scene.Attend(7, 13), want);
            }
          }
        }
      }
    }
  });
}

// Encoded host blocks give the bits of the same numbers on the device.
TEST(AttentionTest, EncodedBlocksOnTheHostGiveTheBitsOfWhatTheyDecodeTo) {
  for (const KvCodecKind kind : {KvCodecKind::kFp8, KvCodecKind::kInt8}) {
    ForEachHighwayTarget([kind] {
      for (const Element element : {Element::kF32, Element::kBF16}) {
        for (const int64_t dim : {2, 18, 64, 80, 128}) {
          for (const int64_t page : {16, 48}) {
            const Problem p{element, dim, 2, 3, page, 2 * page + 25, 21};
            SCOPED_TRACE(absl::StrCat(std::string(KvCodecKindName(kind)), " ", Name(p)));
            for (const bool all : {true, false}) {
              const auto wanted = [&](int64_t block) { return all || block % 2 == 0; };
              Scene on_device(p);
              Scene on_host(p);
              ASSERT_GT(on_device.RoundBlocks(kind, wanted), 0);
              ASSERT_GT(on_host.MoveToHost(wanted, kind), 0);
              const std::vector<float> want = on_device.Attend(kAttentionTileRows, p.queries);
              ASSERT_EQ(on_host.Attend(kAttentionTileRows, p.queries), want);
              ASSERT_EQ(on_host.Attend(7, 13), want);
              ASSERT_NE(Scene(p).Attend(kAttentionTileRows, p.queries), want);
            }
          }
        }
      }
    });
  }
}

TEST(AttentionTest, BlocksOnTheHostMatchTheReferenceForEveryGroupSize) {
  for (const Element element : {Element::kF32, Element::kBF16}) {
    for (int64_t group = 1; group <= 8; ++group) {
      const Problem p{element, 64, 2, group, 32, 150, 5};
      SCOPED_TRACE(Name(p));
      Scene scene(p);
      ASSERT_GT(scene.MoveToHost([](int64_t block) { return block != 1; }), 0);
      const std::vector<float> got = scene.Attend(kAttentionTileRows, p.queries);
      const std::vector<double> want = scene.Reference();
      const double relative = element == Element::kF32 ? 2e-6 : 4e-3;
      for (size_t i = 0; i < want.size(); ++i) {
        ASSERT_NEAR(static_cast<double>(got[i]), want[i], 1e-5 + relative * std::abs(want[i])) << i;
      }
    }
  }
}

TEST(AttentionTest, LargeScoresDoNotOverflow) {
  ForEachHighwayTarget([] {
    const KvLayout layout{Element::kF32, 1, 1, 8, 16};
    std::vector<std::byte> pool(static_cast<size_t>(layout.page_bytes()));
    const std::vector<float> key(8, 1000.0F);
    const std::vector<float> small(8, -1000.0F);
    const std::vector<float> value(8, 3.0F);
    WriteToken(layout, small.data(), value.data(), pool.data(), 0);
    WriteToken(layout, key.data(), value.data(), pool.data(), 1);
    const std::vector<BlockId> blocks = {BlockId(0)};
    std::vector<float> out(8);
    AttentionInput in;
    in.layout = &layout;
    in.pages = pool.data();
    in.blocks = blocks;
    in.first = 1;
    in.queries = key.data();
    in.query_stride = 8;
    in.out = out.data();
    in.out_stride = 8;
    AttentionScratch scratch(layout);
    AttendTile(in, 0, 0, 1, scratch);
    EXPECT_EQ(out, value);
  });
}

}  // namespace
}  // namespace sluice
