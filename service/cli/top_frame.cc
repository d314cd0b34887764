#include "service/cli/top_frame.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sluice {
namespace {

constexpr int kNameWidth = 15;

// "01:02:03", "2d 01:02".
std::string Uptime(double seconds) {
  const auto s = static_cast<int64_t>(std::max(0.0, seconds));
  const int64_t days = s / 86400;
  const int64_t hours = s / 3600 % 24;
  const int64_t minutes = s / 60 % 60;
  if (days > 0) return absl::StrFormat("%dd %02d:%02d", days, hours, minutes);
  return absl::StrFormat("%02d:%02d:%02d", hours, minutes, s % 60);
}

std::string Percent(double share) { return absl::StrFormat("%3.0f %%", share * 100); }

std::string Cut(std::string text, int width) {
  const auto most = static_cast<size_t>(std::max(0, width));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = '?';
  }
  if (text.size() > most) text.resize(most);
  return text;
}

std::string Millis(double seconds) {
  if (seconds >= 9.9995) return absl::StrFormat("%.1f s", seconds);
  return absl::StrFormat("%.*f ms", seconds < 0.01 ? 2 : seconds < 0.1 ? 1 : 0, seconds * 1e3);
}

std::string LatencyLine(const char* name, const v1::LatencySummary& summary) {
  if (summary.count() == 0) return absl::StrFormat("%-*s none in the last 10 s", kNameWidth, name);
  return absl::StrFormat("%-*s p50 %-9s p95 %-9s p99 %-9s (%d in 10 s)", kNameWidth, name,
                         Millis(summary.p50_s()), Millis(summary.p95_s()), Millis(summary.p99_s()),
                         summary.count());
}

bool IsUsed(const v1::TierActivity& tier) { return tier.blocks().capacity() > 0; }

// Links to a tier that is not there are left out.
bool IsShown(const v1::Activity& now, const TopRates::Link& link) {
  for (const v1::TierActivity& tier : now.tiers()) {
    if (tier.tier() != "device" && !IsUsed(tier) &&
        link.name.find(tier.tier()) != std::string::npos) {
      return false;
    }
  }
  return true;
}

class Frame {
 public:
  explicit Frame(TopSize size) : size_(size) {}

  void Add(const std::string& line) { lines_.push_back(Cut(line, size_.columns)); }
  void AddBar(const std::string& name, double share, const std::string& text) {
    const int bar = std::max(10, size_.columns - kNameWidth - 7 - 32);
    Add(absl::StrFormat("%-*s%s %s  %s", kNameWidth, name, Bar(share, bar), Percent(share), text));
  }
  std::vector<std::string> Take() && {
    if (lines_.size() > static_cast<size_t>(size_.rows)) {
      lines_.resize(static_cast<size_t>(std::max(0, size_.rows)));
    }
    return std::move(lines_);
  }

 private:
  const TopSize size_;
  std::vector<std::string> lines_;
};

void AddResources(const v1::Activity& now, const TopRates& rates, Frame* frame) {
  frame->AddBar(
      "device", rates.device_busy,
      absl::StrFormat("overlap %.0f %%  stall %.0f %%", rates.overlap * 100, rates.stall * 100));
  for (const TopRates::Link& link : rates.links) {
    if (!IsShown(now, link)) continue;
    frame->AddBar(link.name, link.busy,
                  absl::StrFormat("%8s/s  queue %s", ShortBytes(link.bytes_per_s),
                                  ShortBytes(static_cast<double>(link.in_flight))));
  }
}

// Of a block on this tier; servers before 0.5 tell one size for all.
double BlockBytes(const v1::ServerInfo& info, const std::string& tier) {
  const uint64_t own = tier == "device" ? info.device_block_bytes()
                       : tier == "host" ? 0
                                        : info.storage_block_bytes();
  return static_cast<double>(own > 0 ? own : info.block_bytes());
}

void AddTiers(const v1::ServerInfo& info, const v1::Activity& now, Frame* frame) {
  for (const v1::TierActivity& tier : now.tiers()) {
    if (!IsUsed(tier)) continue;
    const v1::TierLoad& blocks = tier.blocks();
    const double bytes = BlockBytes(info, tier.tier());
    const auto capacity = static_cast<double>(blocks.capacity());
    const double used = capacity - static_cast<double>(blocks.free());
    frame->AddBar(absl::StrCat("KV ", tier.tier()), used / capacity,
                  absl::StrFormat("of %s  %.0f %% in use", ShortBytes(capacity * bytes),
                                  100 * static_cast<double>(blocks.referenced()) / capacity));
  }
}

std::string KappaLine(const v1::Activity& now, const TopRates& rates) {
  const std::string critical = now.kappa_critical() > 0
                                   ? absl::StrFormat("%.1f", now.kappa_critical())
                                   : std::string("unknown");
  if (!rates.loaded) {
    return absl::StrFormat("%-*s no prompt computed; critical %s", kNameWidth, "kappa", critical);
  }
  const char* verdict = now.kappa_critical() <= 0            ? ""
                        : rates.kappa > now.kappa_critical() ? ", loads outweigh"
                                                             : ", compute outweighs";
  return absl::StrFormat("%-*s %.2f loaded per computed token, critical %s%s", kNameWidth, "kappa",
                         rates.kappa, critical, verdict);
}

void AddTenants(const TopRates& rates, Frame* frame) {
  if (rates.tenants.empty()) return;
  frame->Add("");
  frame->Add(absl::StrFormat("%-24s %6s %9s %10s %8s %8s", "tenant", "live", "finished", "tokens/s",
                             "device", "link"));
  for (const TopRates::Tenant& tenant : rates.tenants) {
    frame->Add(absl::StrFormat("%-24s %6d %9d %10.1f %8s %8s", Cut(tenant.name, 24), tenant.live,
                               tenant.finished, tenant.tokens_per_s, Percent(tenant.device),
                               Percent(tenant.link)));
  }
}

}  // namespace

std::string Bar(double share, int width) {
  const int inner = width - 2;
  const int full = static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * inner));
  return absl::StrCat("[", std::string(static_cast<size_t>(full), '#'),
                      std::string(static_cast<size_t>(inner - full), '.'), "]");
}

std::string ShortBytes(double bytes) {
  const char* unit = "B";
  for (const char* larger : {"kB", "MB", "GB", "TB", "PB"}) {
    if (bytes < 999.5) break;
    bytes /= 1000;
    unit = larger;
  }
  const bool whole = bytes >= 99.5 || *unit == 'B' || bytes == std::floor(bytes);
  return absl::StrFormat("%.*f %s", whole ? 0 : 1, bytes, unit);
}

std::vector<std::string> MakeTopFrame(const v1::ServerInfo& info, const std::string& endpoint,
                                      const v1::Activity& now, const TopRates& rates,
                                      TopSize size) {
  Frame frame(size);
  frame.Add(absl::StrFormat("sluice top  up %s  %s on %s  (%s%s, %s)", Uptime(info.uptime_s()),
                            info.model(), endpoint, info.backend(),
                            info.link_emulated() ? ", emulated link" : "", info.policy()));
  frame.Add(absl::StrCat("bottleneck: ", Bottleneck(now, rates)));
  frame.Add("");
  AddResources(now, rates, &frame);
  frame.Add("");
  AddTiers(info, now, &frame);
  frame.Add("");
  frame.Add(absl::StrFormat("%-*s running %d (%d loading)  waiting %d  finished %.1f/s", kNameWidth,
                            "requests", now.running(), now.loading(), now.waiting(),
                            rates.finished_per_s));
  frame.Add(absl::StrFormat("%-*s output %.1f/s  prompts %.1f/s", kNameWidth, "tokens",
                            rates.output_tokens_per_s, rates.prompt_tokens_per_s));
  frame.Add(KappaLine(now, rates));
  frame.Add(LatencyLine("first token", now.first_token()));
  frame.Add(LatencyLine("between tokens", now.inter_token()));
  if (now.power_size() > 0) {
    std::string power = absl::StrFormat("%-*s", kNameWidth, "power");
    for (const v1::PowerActivity& device : now.power()) {
      absl::StrAppendFormat(&power, " %s %.0f W", device.device(), device.watts());
    }
    frame.Add(power);
  }
  AddTenants(rates, &frame);
  return std::move(frame).Take();
}

}  // namespace sluice
