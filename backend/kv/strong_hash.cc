#include "backend/kv/strong_hash.h"

#include <openssl/evp.h>

#include <array>
#include <cstring>
#include <memory>

#include "scheduler/base/check.h"

namespace sluice {
namespace {

// Fetched once: looking the algorithm up costs more than hashing a block.
struct Sha256 {
  std::unique_ptr<EVP_MD, decltype(&EVP_MD_free)> algorithm{
      EVP_MD_fetch(nullptr, "SHA256", nullptr), &EVP_MD_free};
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(),
                                                                  &EVP_MD_CTX_free};
};

}  // namespace

Hash128 StrongBlockHash(const Hash128& parent, std::span<const TokenId> tokens) {
  static thread_local Sha256 sha;
  SLUICE_CHECK(sha.algorithm != nullptr && sha.context != nullptr);
  EVP_MD_CTX* const context = sha.context.get();
  std::array<unsigned char, 32> digest{};
  const bool done = EVP_DigestInit_ex2(context, sha.algorithm.get(), nullptr) == 1 &&
                    EVP_DigestUpdate(context, &parent, sizeof(parent)) == 1 &&
                    EVP_DigestUpdate(context, tokens.data(), tokens.size_bytes()) == 1 &&
                    EVP_DigestFinal_ex(context, digest.data(), nullptr) == 1;
  SLUICE_CHECK(done);
  Hash128 hash;
  std::memcpy(&hash, digest.data(), sizeof(hash));
  return hash;
}

}  // namespace sluice
