// RequestSeeds: seeds for requests that bring none, and numbers for ids that the server makes.
#pragma once

#include <random>

namespace sluice {

// Begins anew, unforeseeably, with every call.
inline std::mt19937_64 SeededFromTheSystem() {
  std::random_device device;
  std::seed_seq seeds{device(), device(), device(), device()};
  return std::mt19937_64(seeds);
}

}  // namespace sluice
