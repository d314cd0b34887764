// Check: ends the client at the first thing that is not as a gateway expects it.
#pragma once

#include <cstdlib>
#include <iostream>
#include <string>

namespace sluice::gateway {

inline void Check(bool good, const std::string& what) {
  if (good) return;
  std::cerr << "gateway_client: " << what << std::endl;
  std::exit(1);
}

template <class A, class B>
void CheckEqual(const A& have, const B& want, const std::string& what) {
  if (have == want) return;
  std::cerr << "gateway_client: " << what << ": have " << have << ", want " << want << std::endl;
  std::exit(1);
}

}  // namespace sluice::gateway
