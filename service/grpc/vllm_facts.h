// What vllm.grpc.engine asks about model, server and load.
//
// Pure.
#pragma once

#include <string>

#include "absl/time/time.h"
#include "service/grpc/orca_report.h"
#include "service/grpc/service_context.h"
#include "vllm/grpc/engine/vllm_engine.pb.h"

namespace sluice {

vllm::grpc::engine::GetModelInfoResponse MakeVllmModelInfo(const ServiceContext& context);

vllm::grpc::engine::GetServerInfoResponse MakeVllmServerInfo(const SchedulerStats& stats,
                                                             absl::Duration uptime, absl::Time now);

// Of rank 0, the only one: none if `request` asks for another.
vllm::grpc::engine::GetLoadsResponse MakeVllmLoads(
    const vllm::grpc::engine::GetLoadsRequest& request, const ServerLoad& load,
    const v1::ServerInfo& info, absl::Time now);

// {"temperature":0.8,…}: fields that are set; "" if none is.
std::string SamplingDefaultsJson(const SamplingDefaults& defaults);

}  // namespace sluice
