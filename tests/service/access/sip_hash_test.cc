#include "service/access/sip_hash.h"

#include <string>

#include "gtest/gtest.h"

namespace sluice {
namespace {

// Key 00 01 .. 0f, data 00 01 .. n-1: the vectors of the paper (appendix A) and of its reference
// code.
constexpr SipKey kKey = {0x0706050403020100, 0x0f0e0d0c0b0a0908};

std::string Counting(size_t size) {
  std::string data;
  for (size_t i = 0; i < size; ++i) data.push_back(static_cast<char>(i));
  return data;
}

TEST(SipHashTest, GivesThePublishedValues) {
  EXPECT_EQ(SipHash(kKey, Counting(0)), 0x726fdb47dd0e0e31);
  EXPECT_EQ(SipHash(kKey, Counting(1)), 0x74f839c593dc67fd);
  EXPECT_EQ(SipHash(kKey, Counting(8)), 0x93f5f5799a932462);
  EXPECT_EQ(SipHash(kKey, Counting(15)), 0xa129ca6149be45e5);
}

TEST(SipHashTest, DependsOnTheKey) {
  EXPECT_NE(SipHash({1, 2}, "tenant"), SipHash({1, 3}, "tenant"));
  EXPECT_NE(SipHash({1, 2}, "tenant"), SipHash({2, 2}, "tenant"));
}

}  // namespace
}  // namespace sluice
