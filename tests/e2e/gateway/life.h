// What a gateway does with an engine from the first probe on. Each function exits at the first
// thing that is not as it should be.
#pragma once

#include <string>

#include "tests/e2e/gateway/engine.h"

namespace sluice::gateway {

// Health, and that no other engine's protocol answers. Prints facts for the caller to compare:
// "name value" lines.
void Probe(const Channel& channel);
void PrintModelInfo(const Channel& channel);

// Writes the archive to `path`; prints "sha256 HEX".
void FetchTokenizer(const Channel& channel, const std::string& path);

// Streaming, unary, n, stop ids, seeds, log-probabilities. `prompt`: ids the model can go on from.
void GenerateAllWays(const Channel& channel, const Ids& prompt);

// `stop` is a string in the greedy continuation of `prompt`.
void StopAtString(const Channel& channel, const Ids& prompt, const std::string& stop);

// Refusals and their codes.
void RefuseBadRequests(const Channel& channel);

// Abort, a client that leaves, an id used twice; loads polled meanwhile.
void GiveUp(const Channel& channel);

// StreamCoreMetrics. (gRPC keeps the report in a call's trailers to itself.)
void ReadLoadReports(const Channel& channel);

}  // namespace sluice::gateway
