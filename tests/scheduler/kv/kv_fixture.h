// A KvCache over blocks of two tokens, and short ways to use it.
#pragma once

#include <initializer_list>
#include <span>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/kv/kv_cache.h"
#include "tests/support/status_matchers.h"

namespace sluice::testing {

// A sequence over blocks of 2 tokens.
struct Prompt {
  std::vector<TokenId> tokens;
  std::vector<Hash128> hashes;
  KvLease lease;

  explicit Prompt(std::vector<TokenId> t) : tokens(std::move(t)) {
    Hash128 hash = RootHash(0, 0);
    for (size_t i = 0; i + 2 <= tokens.size(); i += 2) {
      hash = BlockHash(hash, std::span<const TokenId>(tokens).subspan(i, 2));
      hashes.push_back(hash);
    }
  }
  Blocks full() const { return Blocks(static_cast<int64_t>(hashes.size())); }
  TokenPath path() const { return {tokens, hashes, 0}; }
};

class KvFixture : public ::testing::Test {
 protected:
  static KvCacheOptions Small() {
    KvCacheOptions options;
    options.tokens_per_block = Tokens(2);
    options.device_blocks = Blocks(8);
    options.host_blocks = Blocks(8);
    options.max_store_blocks = Blocks(64);
    return options;
  }
  explicit KvFixture(const KvCacheOptions& options = Small()) : cache_(options) {}

  const KvMatch& Match(const Prompt& p) {
    cache_.Match(p.path(), p.full(), &match_);
    return match_;
  }
  KvAdmission Admit(Prompt* p, int64_t total, const KvUse& use = {}) {
    Match(*p);
    EXPECT_TRUE(cache_.Fits(match_, Blocks(total), use));
    return cache_.Admit(match_, Blocks(total), use, RequestId(1), &p->lease);
  }
  void Publish(Prompt* p) {
    cache_.Grow(p->full(), &p->lease);
    cache_.Publish(p->path(), p->full(), &p->lease);
  }
  // Admits, computes and publishes all full blocks.
  void Compute(Prompt* p, int64_t total) {
    Admit(p, total);
    Publish(p);
  }
  void Release(Prompt* p) { cache_.Release(p->full(), &p->lease); }

  std::vector<Copy> Take() {
    std::vector<Copy> copies;
    cache_.TakeCopies(&copies);
    return copies;
  }
  std::vector<Copy> EndCopies(bool ok = true) {
    const std::vector<Copy> copies = Take();
    for (const Copy& copy : copies) cache_.OnCopyDone(copy.id, ok);
    return copies;
  }
  std::vector<CopyId> Revoked() {
    std::vector<CopyId> revoked;
    cache_.TakeRevoked(&revoked);
    return revoked;
  }

  // Leaves the prompt's KV in host memory only, having evicted it from the device.
  void PutOnHost(std::vector<TokenId> tokens) {
    Prompt p(std::move(tokens));
    Compute(&p, p.full().value());
    EndCopies();
    Release(&p);
    EndCopies();
    ClearDevice();
  }
  // Evicts everything from the device.
  void ClearDevice() {
    KvLease filler;
    const Blocks all = cache_.device().capacity();
    cache_.Admit(KvMatch(), all, RequestId(1), &filler);
    cache_.Grow(all, &filler);
    cache_.Release(Blocks(0), &filler);
  }

  void Check(std::initializer_list<const Prompt*> live) {
    std::vector<const KvLease*> leases;
    for (const Prompt* p : live) leases.push_back(&p->lease);
    EXPECT_THAT(cache_.CheckInvariants(leases), IsOk());
  }

  KvCache cache_;
  KvMatch match_;
};

}  // namespace sluice::testing
