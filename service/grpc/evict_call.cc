#include "service/grpc/evict_call.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/access/access_control.h"
#include "service/grpc/access_check.h"
#include "service/grpc/activity_report.h"
#include "service/grpc/request_checks.h"
#include "service/telemetry/link_labels.h"

namespace sluice {
namespace {

constexpr size_t kLocalTiers = 3;  // device, host, and what is behind it

uint64_t Count(int64_t value) { return static_cast<uint64_t>(std::max<int64_t>(0, value)); }

// What a block takes on each tier.
std::array<Bytes, kLocalTiers> BlockBytes(const ServiceContext& context) {
  const BackendInfo& info = context.engine.loop().backend_info();
  const Bytes host = info.geometry.bytes_per_block;
  const auto or_host = [host](Bytes own) { return own > Bytes(0) ? own : host; };
  return {or_host(info.device_block_bytes), host, or_host(info.disk_block_bytes)};
}

// The tiers there are, by the places they have in the scheduler's numbers: what is behind the host
// may be a disk or a remote store.
std::array<const char*, kLocalTiers> NamesOf(const ServiceContext& context) {
  return {TierName(Tier::kDevice), TierName(Tier::kHost),
          TierName(context.engine.loop().backend_info().storage_tier)};
}

absl::Status ParseTiers(const v1::EvictRequest& request, const ServiceContext& context,
                        EvictSpec* spec) {
  if (request.tiers_size() == 0) return absl::OkStatus();
  spec->tiers = {};
  const std::array<const char*, kLocalTiers> names = NamesOf(context);
  for (const std::string& name : request.tiers()) {
    const auto* const found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) {
      return absl::InvalidArgumentError(absl::StrCat("tiers: \"", name, "\" is not \"", names[0],
                                                     "\", \"", names[1], "\" or \"", names[2],
                                                     "\""));
    }
    spec->tiers[static_cast<size_t>(found - names.begin())] = true;
  }
  return absl::OkStatus();
}

// The request's scheduling and prompt, checked as those of any request.
absl::StatusOr<RequestSpec> RequestOf(v1::EvictRequest& request, const GenerateShared& shared,
                                      absl::Time now) {
  v1::ExplainRequest question;
  *question.mutable_scheduling() = request.scheduling();
  if (request.has_text()) {
    question.set_text(std::move(*request.mutable_text()));
  } else if (request.has_token_ids()) {
    question.mutable_token_ids()->Swap(request.mutable_token_ids());
  } else {
    question.mutable_token_ids()->add_ids(0);  // any
  }
  question.set_max_tokens(1);
  return CheckExplainRequest(std::move(question), shared.limits(), shared.context().tokenizer, now);
}

}  // namespace

grpc::ServerUnaryReactor* EvictCall::Start(const grpc::CallbackServerContext& rpc,
                                           const grpc::ByteBuffer& request,
                                           grpc::ByteBuffer* response, GenerateShared& shared) {
  const std::shared_ptr<EvictCall> call(new EvictCall(response, shared));
  call->Hold(call);
  if (absl::Status asked = call->Ask(rpc, request); !asked.ok()) call->End(asked);
  return call.get();
}

EvictCall::EvictCall(grpc::ByteBuffer* response, GenerateShared& shared)
    : UnaryCall("Evict", response, shared) {}

absl::Status EvictCall::Ask(const grpc::CallbackServerContext& rpc, const grpc::ByteBuffer& bytes) {
  const ServiceContext& context = shared().context();
  SLUICE_ASSIGN_OR_RETURN(const Caller caller, CallerOf(context, rpc));
  v1::EvictRequest request;
  SLUICE_RETURN_IF_ERROR(ParseMessage(bytes, &request));
  SLUICE_RETURN_IF_ERROR(ParseTiers(request, context, &spec_));
  spec_.pinned = request.pinned();
  const v1::EvictRequest::WhatCase what = request.what_case();
  if (what == v1::EvictRequest::WHAT_NOT_SET || (request.has_domain() && !request.domain()) ||
      (request.has_everything() && !request.everything())) {
    return absl::InvalidArgumentError("what: not set; set text, token_ids, domain or everything");
  }
  SLUICE_ASSIGN_OR_RETURN(RequestSpec spec, RequestOf(request, shared(), arrival()));
  if (context.access != nullptr) {
    const bool shares = what == v1::EvictRequest::kDomain && !context.access->KeepsApart(caller);
    if (what == v1::EvictRequest::kEverything || shares) {
      SLUICE_RETURN_IF_ERROR(AccessControl::CheckAdmin(caller, "Evict"));
    }
    SLUICE_RETURN_IF_ERROR(context.access->Prepare(caller, &spec));
  }
  if (what != v1::EvictRequest::kEverything) spec_.cache_salt = spec.cache_salt;
  const bool prompt = what == v1::EvictRequest::kText || what == v1::EvictRequest::kTokenIds;
  if (prompt) spec_.prompt = std::move(spec.prompt);
  const std::weak_ptr<UnaryCall> weak = weak_from_this();
  return context.engine.loop().Evict(
      spec_, [weak, pump = shared().pump()](absl::StatusOr<EvictResult> result) {
        const std::shared_ptr<UnaryCall> held = weak.lock();
        if (held == nullptr) return;
        auto* call = static_cast<EvictCall*>(held.get());
        {
          std::lock_guard<std::mutex> lock(call->results_mu_);
          call->result_ = std::move(result);
        }
        pump->Enqueue(held);
      });
}

v1::EvictResponse EvictCall::ResponseOf(const EvictResult& result) const {
  const std::array<Bytes, kLocalTiers> bytes = BlockBytes(shared().context());
  const std::array<const char*, kLocalTiers> names = NamesOf(shared().context());
  v1::EvictResponse response;
  for (size_t t = 0; t < kLocalTiers; ++t) {
    if (!spec_.tiers[t]) continue;
    const EvictResult::Count& count = result.tiers[t];
    v1::TierEviction* tier = response.add_tiers();
    tier->set_tier(names[t]);
    tier->set_dropped_blocks(Count(count.dropped.value()));
    tier->set_dropped_bytes(Count(count.dropped.value() * bytes[t].value()));
    tier->set_in_use_blocks(Count(count.in_use.value()));
    tier->set_pinned_blocks(Count(count.pinned.value()));
  }
  response.set_shared_blocks(Count(result.shared.value()));
  return response;
}

void EvictCall::OnReady() {
  std::optional<absl::StatusOr<EvictResult>> result;
  {
    std::lock_guard<std::mutex> lock(results_mu_);
    result.swap(result_);
  }
  if (!result.has_value()) return;
  if (!result->ok()) return End(result->status());
  Answer(ResponseOf(**result));
}

v1::CacheStatsResponse MakeCacheStats(const ServiceContext& context) {
  const SchedulerStats stats = context.engine.loop().load().scheduler;
  const std::array<Bytes, kLocalTiers> bytes = BlockBytes(context);
  v1::CacheStatsResponse out;
  const KvGeometry& geometry = context.engine.loop().backend_info().geometry;
  out.set_block_size(static_cast<uint32_t>(geometry.tokens_per_block.value()));
  out.set_block_bytes(Count(geometry.bytes_per_block.value()));
  const std::array<const TierStats*, kLocalTiers> tiers = {&stats.device, &stats.host, &stats.disk};
  const std::array<Blocks, kLocalTiers> evicted = {stats.device_evictions, stats.host_evictions,
                                                   stats.disk_evictions};
  const std::array<const char*, kLocalTiers> names = NamesOf(context);
  for (size_t t = 0; t < kLocalTiers; ++t) {
    v1::TierCache* tier = out.add_tiers();
    const Blocks used = tiers[t]->capacity - tiers[t]->free;
    tier->set_tier(names[t]);
    *tier->mutable_blocks() = MakeTierLoad(*tiers[t]);
    tier->set_pinned_blocks(Count(tiers[t]->pinned.value()));
    tier->set_capacity_bytes(Count(tiers[t]->capacity.value() * bytes[t].value()));
    tier->set_used_bytes(Count(used.value() * bytes[t].value()));
    const auto which = static_cast<size_t>(t == 2 ? stats.storage_tier : static_cast<Tier>(t));
    tier->set_hit_tokens(Count(stats.prompt_tokens_cached[which].value()));
    tier->set_evicted_blocks(Count(evicted[t].value()));
  }
  out.set_computed_tokens(Count(stats.prompt_tokens_computed.value()));
  out.set_stored_blocks(Count(stats.moves.stored.value()));
  out.set_spilled_blocks(Count(stats.moves.spilled.value()));
  out.set_staged_blocks(Count(stats.moves.staged.value()));
  out.set_prefetched_blocks(Count(stats.moves.prefetched.value()));
  out.set_corrupt_blocks(Count(stats.disk_corrupt.value()));
  out.set_evicted_on_request(Count(stats.moves.evicted_on_request.value()));
  out.set_pins_yielded(Count(stats.moves.pins_yielded.value()));
  return out;
}

}  // namespace sluice
