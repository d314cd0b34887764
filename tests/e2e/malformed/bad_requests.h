// Requests that are wrong in one way each.
#pragma once

#include <functional>
#include <random>
#include <string>
#include <vector>

#include "sluice/v1/control.pb.h"
#include "sluice/v1/inference.pb.h"

namespace sluice::malformed {

using Random = std::mt19937_64;

// A request that is fine: two tokens out of three ids, whatever the model.
v1::GenerateRequest GoodRequest();

// Makes a good request bad.
struct Mutation {
  const char* name;
  std::function<void(v1::GenerateRequest*, const v1::ServerInfo&, Random&)> apply;
};

// Every mutation breaks a limit stated in inference.proto, so all answers are INVALID_ARGUMENT.
const std::vector<Mutation>& Mutations();

// Bytes that are a GenerateRequest but for one string field, which is not UTF-8.
std::string WithInvalidUtf8(Random& random);

// Bytes that are no `message`: random, cut short, or with a length that points past the end.
std::string NotAMessage(const google::protobuf::Message& message, Random& random);

}  // namespace sluice::malformed
