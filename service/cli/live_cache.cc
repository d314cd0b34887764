#include "service/cli/live_cache.h"

#include <google/protobuf/util/json_util.h>

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "scheduler/base/status_macros.h"
#include "service/cli/client.h"
#include "service/cli/prompt_file.h"
#include "service/cli/table.h"
#include "service/config/flag_values.h"

namespace sluice {
namespace {

// What a call may take beyond what the server was given.
constexpr absl::Duration kGrace = absl::Seconds(60);

// Of warm and evict: they name their prompt alike.
template <class Request>
absl::Status FillPrompt(const LiveCacheOptions& options, std::istream& in, Request* request) {
  request->mutable_scheduling()->set_tenant(options.tenant);
  request->mutable_scheduling()->set_cache_salt(options.cache_salt);
  if (!options.prompt_ids.empty()) {
    request->mutable_token_ids()->mutable_ids()->Assign(options.prompt_ids.begin(),
                                                        options.prompt_ids.end());
  } else if (options.prompt.has_value()) {
    request->set_text(*options.prompt);
  } else if (!options.prompt_file.empty()) {
    SLUICE_ASSIGN_OR_RETURN(std::string text, ReadPrompt(options.prompt_file, in));
    request->set_text(std::move(text));
  }
  return absl::OkStatus();
}

std::string JsonOf(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  (void)google::protobuf::util::MessageToJsonString(message, &json, options);
  return absl::StrCat(json, "\n");
}

absl::Status StatusOf(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), DescribeError(status));
}

// Runs one rpc and returns its answer as text.
class Rpc {
 public:
  Rpc(Client& client, const LiveCacheOptions& options, std::istream& in)
      : client_(client), options_(options), in_(in) {
    const absl::Duration patience = absl::Seconds(options.timeout_s) + kGrace;
    context_.set_deadline(absl::ToChronoTime(absl::Now() + patience));
  }

  absl::StatusOr<std::string> Warm() {
    v1::WarmRequest request;
    SLUICE_RETURN_IF_ERROR(FillPrompt(options_, in_, &request));
    request.set_tier(options_.tier);
    request.set_pin_s(options_.pin_s);
    request.set_compute(options_.compute);
    request.set_timeout_s(options_.timeout_s);
    v1::WarmResponse response;
    SLUICE_RETURN_IF_ERROR(StatusOf(client_.control().Warm(&context_, request, &response)));
    return options_.json ? JsonOf(response) : WarmText(response);
  }

  absl::StatusOr<std::string> Evict() {
    v1::EvictRequest request;
    SLUICE_RETURN_IF_ERROR(FillPrompt(options_, in_, &request));
    if (options_.domain) request.set_domain(true);
    if (options_.everything) request.set_everything(true);
    request.mutable_tiers()->Assign(options_.tiers.begin(), options_.tiers.end());
    request.set_pinned(options_.pinned);
    v1::EvictResponse response;
    SLUICE_RETURN_IF_ERROR(StatusOf(client_.control().Evict(&context_, request, &response)));
    return options_.json ? JsonOf(response) : EvictText(response);
  }

  absl::StatusOr<std::string> Stats() {
    v1::CacheStatsResponse response;
    SLUICE_RETURN_IF_ERROR(
        StatusOf(client_.control().CacheStats(&context_, v1::CacheStatsRequest(), &response)));
    return options_.json ? JsonOf(response) : CacheStatsText(response);
  }

 private:
  Client& client_;
  const LiveCacheOptions& options_;
  std::istream& in_;
  grpc::ClientContext context_;
};

}  // namespace

void LiveCacheOptions::Define(FlagSet& flags) {
  connection.Define(flags);
  flags.Group("warm, evict");
  Flag text;
  text.name = "prompt";
  text.value_name = "TEXT";
  text.help = "the prompt itself";
  text.set = [this](const std::vector<std::string>& values) {
    prompt = values.back();
    return absl::OkStatus();
  };
  text.show = [this] { return prompt.value_or(""); };
  flags.Add(std::move(text));
  flags.String("prompt-file", &prompt_file, "FILE", "read the prompt from here; - is stdin");
  flags.Ids("prompt-ids", &prompt_ids, "the prompt as token ids, used as they are");
  flags.String("tenant", &tenant, "NAME", "whose KV (default: the token's)");
  flags.String("cache-salt", &cache_salt, "TEXT", "the salt of the requests that will use it");
  flags.Bool("json", &json, "print the answer as JSON");
  flags.Group("warm");
  flags.Choice("tier", &tier, {"device", "host"}, "where to bring it");
  flags.Number("pin", &pin_s, 0, 86'400, "SECONDS",
               "keep it there so long, whatever needs room; 0 = no pin");
  flags.Bool("compute", &compute, "compute what is cached nowhere");
  flags.Number("timeout", &timeout_s, 0, 3600, "SECONDS", "answer after this long at the latest");
  flags.Group("evict (a prompt, or one of the first two)");
  flags.Bool("domain", &domain, "all KV of the tenant and cache salt");
  flags.Bool("everything", &everything, "all KV of the server; needs an admin's token");
  flags.Strings("from", &tiers, "TIER", "device, host, disk or remote (default: all)");
  flags.Bool("pinned", &pinned, "pinned blocks, too");
}

absl::Status LiveCacheOptions::Validate(const std::string& action) const {
  if (action == "stats") return absl::OkStatus();
  const int prompts =
      (prompt.has_value() ? 1 : 0) + (prompt_file.empty() ? 0 : 1) + (prompt_ids.empty() ? 0 : 1);
  const int others = (domain ? 1 : 0) + (everything ? 1 : 0);
  if (action == "warm") {
    if (prompts == 1 && others == 0) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "warm: give exactly one of --prompt TEXT, --prompt-file FILE, --prompt-ids ID,ID,...");
  }
  if (prompts + others == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "evict: give exactly one of --prompt TEXT, --prompt-file FILE, --prompt-ids ID,ID,..., "
      "--domain, --everything");
}

std::string WarmText(const v1::WarmResponse& r) {
  std::string text = absl::StrCat(r.ready_tokens(), " of ", r.prompt_tokens(), " tokens are there");
  if (r.computed_tokens() > 0) absl::StrAppend(&text, ", ", r.computed_tokens(), " computed now");
  if (r.elsewhere_tokens() > 0) {
    absl::StrAppend(&text, ", ", r.elsewhere_tokens(), " cached elsewhere");
  }
  if (r.missing_tokens() > 0) absl::StrAppend(&text, ", ", r.missing_tokens(), " not cached");
  if (r.pinned_tokens() > 0) {
    absl::StrAppend(&text, "; ", r.pinned_tokens(), " pinned for ", FormatNumber(r.pinned_s()),
                    " s");
  }
  if (r.timed_out()) absl::StrAppend(&text, "; timed out, the rest is on its way");
  return absl::StrCat(text, "\n");
}

std::string EvictText(const v1::EvictResponse& r) {
  using Align = Table::Align;
  Table table({{"tier", Align::kLeft}, {"dropped"}, {"bytes"}, {"kept: in use"}, {"kept: pinned"}});
  for (const v1::TierEviction& tier : r.tiers()) {
    table.AddRow({tier.tier(), absl::StrCat(tier.dropped_blocks()),
                  FormatBytes(Bytes(static_cast<int64_t>(tier.dropped_bytes()))),
                  absl::StrCat(tier.in_use_blocks()), absl::StrCat(tier.pinned_blocks())});
  }
  std::string text = table.Render();
  if (r.shared_blocks() > 0) {
    absl::StrAppend(&text, r.shared_blocks(),
                    " blocks at the front are kept: other prompts begin with them\n");
  }
  return text;
}

std::string CacheStatsText(const v1::CacheStatsResponse& r) {
  using Align = Table::Align;
  Table table({{"tier", Align::kLeft},
               {"blocks"},
               {"free"},
               {"in use"},
               {"pinned"},
               {"cached"},
               {"moving"},
               {"used"},
               {"hit tokens"},
               {"evicted"}});
  for (const v1::TierCache& tier : r.tiers()) {
    const v1::TierLoad& blocks = tier.blocks();
    table.AddRow({tier.tier(), absl::StrCat(blocks.capacity()), absl::StrCat(blocks.free()),
                  absl::StrCat(blocks.referenced()), absl::StrCat(tier.pinned_blocks()),
                  absl::StrCat(blocks.cached()), absl::StrCat(blocks.in_transit()),
                  FormatBytes(Bytes(static_cast<int64_t>(tier.used_bytes()))),
                  absl::StrCat(tier.hit_tokens()), absl::StrCat(tier.evicted_blocks())});
  }
  return absl::StrCat(table.Render(), "blocks of ", r.block_size(), " tokens, ",
                      FormatBytes(Bytes(static_cast<int64_t>(r.block_bytes()))), "; ",
                      r.stored_blocks(), " stored, ", r.spilled_blocks(), " spilled, ",
                      r.staged_blocks(), " staged, ", r.prefetched_blocks(), " prefetched, ",
                      r.corrupt_blocks(), " corrupt, ", r.evicted_on_request(),
                      " evicted on request, ", r.pins_yielded(), " pins yielded\n");
}

int RunLiveCache(const std::string& action, const LiveCacheOptions& options, const CliIo& io) {
  const auto call = [&]() -> absl::StatusOr<std::string> {
    SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client,
                            Client::Connect(options.connection));
    Rpc rpc(*client, options, io.in);
    return action == "warm" ? rpc.Warm() : action == "evict" ? rpc.Evict() : rpc.Stats();
  };
  const absl::StatusOr<std::string> text = call();
  if (!text.ok()) {
    io.err << "sluice: " << text.status().message() << std::endl;
    return ExitCodeOf(text.status());
  }
  io.out << *text << std::flush;
  return kExitOk;
}

}  // namespace sluice
