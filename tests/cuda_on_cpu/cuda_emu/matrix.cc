// mma and ldmatrix: done once per warp, by the last lane to arrive.
#include <array>
#include <cstring>

#include "cuda_emu/access.h"
#include "cuda_emu/block.h"
#include "cuda_emu/instruction.h"
#include "cuda_emu/small_float.h"

namespace cuda_emu {
namespace {

struct MmaLane {
  void* d;
  const uint32_t* a;
  const uint32_t* b;
  const void* c;
};

// Number `i` of the elements packed into `word`, as a float (exact for all operand types).
float Element(MmaType type, uint32_t word, int i) {
  switch (type) {
    case MmaType::kBf16:
      return Bfloat16ToFloat(static_cast<uint16_t>(word >> (16 * i)));
    case MmaType::kF16:
      return HalfToFloat(static_cast<uint16_t>(word >> (16 * i)));
    case MmaType::kS8:
      break;
  }
  return static_cast<float>(static_cast<int8_t>(word >> (8 * i)));
}

// The whole product, in the order of plain matrices.
template <int kDepth, class Accumulator>
struct Product {
  float a[16][kDepth];
  float b[kDepth][8];
  Accumulator c[16][8];
};

// Spreads the lanes' fragments. A word holds kDepth / 8 neighbours along k: words 0 and 1 of a are
// rows g and g + 8 of the first half of k, words 2 and 3 of the second.
template <MmaType kType, int kDepth, class Accumulator>
void Gather(void* const lanes[32], Product<kDepth, Accumulator>* p) {
  constexpr int kPack = kDepth / 8;
  for (int lane = 0; lane < 32; ++lane) {
    const MmaLane& m = *static_cast<const MmaLane*>(lanes[lane]);
    const int g = lane / 4;
    const int t = lane % 4;
    for (int word = 0; word < 4; ++word) {
      for (int i = 0; i < kPack; ++i) {
        p->a[g + 8 * (word % 2)][t * kPack + kDepth / 2 * (word / 2) + i] =
            Element(kType, m.a[word], i);
      }
    }
    for (int word = 0; word < 2; ++word) {
      for (int i = 0; i < kPack; ++i) {
        p->b[t * kPack + kDepth / 2 * word + i][g] = Element(kType, m.b[word], i);
      }
    }
    Accumulator c[4];
    std::memcpy(c, m.c, sizeof(c));
    for (int i = 0; i < 4; ++i) p->c[g + 8 * (i / 2)][2 * t + i % 2] = c[i];
  }
}

template <MmaType kType, int kDepth, class Accumulator>
void RunMma(void* const lanes[32], uint32_t mask) {
  if (mask != kFullMask) return;  // diagnosed before
  Product<kDepth, Accumulator> p;
  Gather<kType>(lanes, &p);
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < kDepth; ++k) {
      const float a = p.a[row][k];
      for (int column = 0; column < 8; ++column) {
        p.c[row][column] += static_cast<Accumulator>(a * p.b[k][column]);
      }
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    Accumulator d[4];
    for (int i = 0; i < 4; ++i) d[i] = p.c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
    std::memcpy(static_cast<const MmaLane*>(lanes[lane])->d, d, sizeof(d));
  }
}

WarpFunction MmaFunction(MmaType type) {
  switch (type) {
    case MmaType::kBf16:
      return RunMma<MmaType::kBf16, 16, float>;
    case MmaType::kF16:
      return RunMma<MmaType::kF16, 16, float>;
    case MmaType::kS8:
      break;
  }
  return RunMma<MmaType::kS8, 32, int32_t>;
}

struct LdmatrixLane {
  const void* row;
  uint32_t* out;
  int count;
  bool transposed;
};

// The element at `column` of the row whose address `lane` gave.
uint32_t RowElement(void* const lanes[32], int lane, int column) {
  uint16_t bits = 0;
  const auto* const row =
      static_cast<const unsigned char*>(static_cast<const LdmatrixLane*>(lanes[lane])->row);
  std::memcpy(&bits, row + 2 * column, sizeof(bits));
  return bits;
}

void RunLdmatrix(void* const lanes[32], uint32_t mask) {
  if (mask != kFullMask) return;
  for (int lane = 0; lane < 32; ++lane) {
    const LdmatrixLane& me = *static_cast<const LdmatrixLane*>(lanes[lane]);
    const int g = lane / 4;
    const int t = lane % 4;
    for (int m = 0; m < me.count; ++m) {
      const uint32_t low =
          me.transposed ? RowElement(lanes, 8 * m + 2 * t, g) : RowElement(lanes, 8 * m + g, 2 * t);
      const uint32_t high = me.transposed ? RowElement(lanes, 8 * m + 2 * t + 1, g)
                                          : RowElement(lanes, 8 * m + g, 2 * t + 1);
      me.out[m] = low | high << 16;
    }
  }
}

}  // namespace

void Mma(MmaType type, void* d, const uint32_t* a, const uint32_t* b, const void* c, Site site) {
  MmaLane lane{d, a, b, c};
  Collective(kFullMask, WarpOp::kMma, true, MmaFunction(type), &lane, site);
}

void Ldmatrix(uint32_t* out, const void* row, int count, bool transposed, Site site) {
  // Lanes past 8 * count give no address that is used.
  if (Lane() < 8 * count) {
    NoteAccess(Space::kLdmatrix, row, 16, 16, site);
    // The read happens here, where the sanitizers see whose row it is.
    unsigned char probe[16];
    SeenCopy(probe, row, sizeof(probe));
  }
  LdmatrixLane lane{row, out, count, transposed};
  Collective(kFullMask, WarpOp::kLdmatrix, true, RunLdmatrix, &lane, site);
}

}  // namespace cuda_emu
