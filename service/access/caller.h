// Caller: who sent a request, as far as the server knows.
#pragma once

#include <string>

namespace sluice {

struct Caller {
  // A token was shown, and `tenant` is the one it stands for. Without: nobody asked for a token,
  // and requests name whatever tenant they like.
  bool authenticated = false;
  std::string tenant;
  // May act for every tenant, as a gateway does, and may drain the server.
  bool admin = true;
};

}  // namespace sluice
