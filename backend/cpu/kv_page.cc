// StorePage and LoadPage of kv_layout.h.
//
// A page and a layer slice are both one run of memory, but for the padding of V, and hold the same
// rows in another order: each is read once from beginning to end (nearly: a few streams), line by
// line ahead of its use, and written in whole cache lines.
#include <algorithm>
#include <cstring>

#include "backend/cpu/kv_layout.h"
#include "backend/cpu/kv_transpose.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/kv_page.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backend/cpu/kv_transpose-inl.h"

#ifndef SLUICE_BACKEND_CPU_KV_PAGE_WORDS
#define SLUICE_BACKEND_CPU_KV_PAGE_WORDS
namespace sluice {
namespace {

// A page whose rows of a head are whole cache lines, in 32-bit words.
struct PageWords {
  explicit PageWords(const KvLayout& layout)
      : heads(layout.kv_heads),
        tokens(layout.page_tokens),
        row(layout.units()),
        token(heads * row),
        keys(tokens * row),
        half(tokens * token) {}
  int64_t heads;
  int64_t tokens;
  int64_t row;    // K or V of one head of one token
  int64_t token;  // the same of all heads
  int64_t keys;   // K or V of one head of a page
  int64_t half;   // K or V of a page
};

}  // namespace
}  // namespace sluice
#endif

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// Fetches what is going to be read, a fixed way ahead: the rest of this page, then the next one.
class Fetcher {
 public:
  Fetcher(const uint32_t* page, const std::byte* next, int64_t words, int64_t ahead)
      : page_(page),
        next_(reinterpret_cast<const uint32_t*>(next)),
        words_(words),
        at_(std::min(ahead, words)) {}

  template <int64_t kLines>
  HWY_INLINE void Lines() {
    const bool here = at_ < words_;
    if (here || next_ != nullptr) {
      const uint32_t* line = here ? page_ + at_ : next_ + (at_ - words_);
      // Into the second-level cache: the first one holds what is at hand.
      for (int64_t i = 0; i < kLines; ++i) __builtin_prefetch(line + i * kLineWords, 0, 2);
    }
    at_ += kLines * kLineWords;
  }

 private:
  const uint32_t* page_;
  const uint32_t* next_;
  int64_t words_;
  int64_t at_;
};

template <bool kStream>
HWY_INLINE void CopyRow(const uint32_t* HWY_RESTRICT in, int64_t words, uint32_t* HWY_RESTRICT out,
                        Fetcher& fetch) {
  for (int64_t i = 0; i < words; i += kLineWords) {
    fetch.Lines<1>();
    for (int64_t j = i; j < i + kLineWords; j += kSide) {
      StoreWords<kStream>(hn::LoadU(DWords(), in + j), out + j);
    }
  }
}

template <bool kStream>
void StoreWhole(const PageWords& p, const uint32_t* HWY_RESTRICT page, uint32_t* HWY_RESTRICT host,
                const std::byte* next) {
  constexpr int64_t kAhead = 4096 / 4;
  // Rows of two lines are written whole before the next ones; longer ones are faster read in order.
  constexpr int64_t kShortRow = 2 * kLineWords;
  Fetcher fetch(page, next, 2 * p.half, kAhead);
  for (int64_t h = 0; h < p.heads; ++h, page += 2 * p.keys, host += p.row) {
    const auto panel = [&](int64_t u, int64_t t) HWY_ATTR {
      fetch.Lines<kSide>();
      TurnPanel<kStream>(page + u * p.tokens + t, p.tokens, host + t * p.token + u, p.token);
    };
    if (p.row <= kShortRow) {
      for (int64_t t = 0; t < p.tokens; t += kSide) {
        for (int64_t u = 0; u < p.row; u += kLineWords) panel(u, t);
      }
    } else {
      for (int64_t u = 0; u < p.row; u += kLineWords) {
        for (int64_t t = 0; t < p.tokens; t += kSide) panel(u, t);
      }
    }
    for (int64_t t = 0; t < p.tokens; ++t) {
      CopyRow<kStream>(page + p.keys + t * p.row, p.row, host + p.half + t * p.token, fetch);
    }
  }
  if (kStream) hwy::FlushStream();
}

template <bool kStream>
void LoadWhole(const PageWords& p, const uint32_t* HWY_RESTRICT host, uint32_t* HWY_RESTRICT page,
               const std::byte* next) {
  constexpr int64_t kAhead = 8192 / 4;
  Fetcher fetch(host, next, 2 * p.half, std::max(kAhead, kLineWords * p.token));
  for (int64_t t = 0; t < p.tokens; t += kLineWords) {
    for (int64_t h = 0; h < p.heads; ++h) {
      for (int64_t u = 0; u < p.row; u += kSide) {
        fetch.Lines<kSide>();
        TurnPanel<kStream>(host + t * p.token + h * p.row + u, p.token,
                           page + 2 * h * p.keys + u * p.tokens + t, p.tokens);
      }
    }
  }
  host += p.half;
  page += p.keys;
  for (int64_t t = 0; t < p.tokens; ++t) {
    for (int64_t h = 0; h < p.heads; ++h) {
      CopyRow<kStream>(host + t * p.token + h * p.row, p.row, page + 2 * h * p.keys + t * p.row,
                       fetch);
    }
  }
  if (kStream) hwy::FlushStream();
}

void StoreAny(const PageWords& p, const uint32_t* page, uint32_t* host, const PageCopy& how) {
  how.stream ? StoreWhole<true>(p, page, host, how.next)
             : StoreWhole<false>(p, page, host, how.next);
}
void LoadAny(const PageWords& p, const uint32_t* host, uint32_t* page, const PageCopy& how) {
  how.stream ? LoadWhole<true>(p, host, page, how.next) : LoadWhole<false>(p, host, page, how.next);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {
namespace {

HWY_EXPORT(StoreAny);
HWY_EXPORT(LoadAny);

constexpr int64_t kLineBytes = 64;

void CopyRows(const std::byte* in, int64_t in_stride, int64_t rows, int64_t row_bytes,
              std::byte* out, int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(out + r * out_stride, in + r * in_stride, static_cast<size_t>(row_bytes));
  }
}

// Strides and sizes of pages of any shape.
struct PageWalk {
  explicit PageWalk(const KvLayout& layout)
      : dim_bytes(layout.head_dim * layout.element_bytes()),
        token_bytes(layout.kv_heads * dim_bytes),
        token_words(token_bytes / 4),
        stride_bytes(layout.value_stride() * layout.element_bytes()) {}
  int64_t dim_bytes;     // one head's K or V of one token on the host
  int64_t token_bytes;   // all heads' K or V of one token on the host
  int64_t token_words;   // the same in units
  int64_t stride_bytes;  // from token to token in V on the device
};

bool InLines(const KvLayout& layout) {
  return layout.head_dim * layout.element_bytes() % kLineBytes == 0;
}

PageCopy StreamIfAligned(PageCopy how, const std::byte* out) {
  how.stream = how.stream && reinterpret_cast<uintptr_t>(out) % kLineBytes == 0;
  return how;
}

}  // namespace

void StorePage(const KvLayout& layout, const std::byte* page, std::byte* host,
               const PageCopy& how) {
  if (InLines(layout)) {
    HWY_DYNAMIC_DISPATCH(StoreAny)
    (PageWords(layout), reinterpret_cast<const uint32_t*>(page), reinterpret_cast<uint32_t*>(host),
     StreamIfAligned(how, host));
    return;
  }
  const PageWalk walk(layout);
  std::byte* host_values = host + layout.host_half_bytes();
  for (int64_t h = 0; h < layout.kv_heads; ++h) {
    const std::byte* head = page + h * layout.head_bytes();
    TransposeWords(reinterpret_cast<const uint32_t*>(head), layout.page_tokens, layout.units(),
                   layout.page_tokens, reinterpret_cast<uint32_t*>(host + h * walk.dim_bytes),
                   walk.token_words);
    CopyRows(head + layout.key_bytes(), walk.stride_bytes, layout.page_tokens, walk.dim_bytes,
             host_values + h * walk.dim_bytes, walk.token_bytes);
  }
}

void LoadPage(const KvLayout& layout, const std::byte* host, std::byte* page, const PageCopy& how) {
  if (InLines(layout)) {
    HWY_DYNAMIC_DISPATCH(LoadAny)
    (PageWords(layout), reinterpret_cast<const uint32_t*>(host), reinterpret_cast<uint32_t*>(page),
     StreamIfAligned(how, page));
    return;
  }
  const PageWalk walk(layout);
  const std::byte* host_values = host + layout.host_half_bytes();
  for (int64_t h = 0; h < layout.kv_heads; ++h) {
    std::byte* head = page + h * layout.head_bytes();
    TransposeWords(reinterpret_cast<const uint32_t*>(host + h * walk.dim_bytes), walk.token_words,
                   layout.page_tokens, layout.units(), reinterpret_cast<uint32_t*>(head),
                   layout.page_tokens);
    CopyRows(host_values + h * walk.dim_bytes, walk.token_bytes, layout.page_tokens, walk.dim_bytes,
             head + layout.key_bytes(), walk.stride_bytes);
  }
}

}  // namespace sluice
#endif
