#include "service/cli/cache_command.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "backend/kv/disk_lock.h"
#include "scheduler/base/status_macros.h"
#include "service/cli/progress_bar.h"
#include "service/cli/table.h"
#include "service/config/flag_values.h"

namespace sluice {
namespace {

std::string Count(int64_t count, const char* unit) {
  return absl::StrCat(count, " ", unit, count == 1 ? "" : "s", " ago");
}

absl::StatusOr<NamespaceAudit> AuditWithProgress(const std::string& directory,
                                                 const std::string& id, const CliIo& io) {
  std::unique_ptr<ProgressBar> bar;
  return Audit(directory, id, [&](int64_t done, int64_t total) {
    if (bar == nullptr) {
      bar = std::make_unique<ProgressBar>(io.err, io.err_is_terminal, absl::StrCat("reading ", id),
                                          total);
    }
    bar->Update(done, FormatBytes(Bytes(done)));
  });
}

}  // namespace

std::string AgeText(absl::Duration age) {
  if (age < absl::Minutes(1)) return "just now";
  if (age < absl::Hours(1)) return Count(absl::ToInt64Minutes(age), "minute");
  if (age < absl::Hours(48)) return Count(absl::ToInt64Hours(age), "hour");
  return Count(absl::ToInt64Hours(age) / 24, "day");
}

void CacheCommand::DefineFlags(FlagSet& flags) {
  flags.Group("What to do");
  flags
      .Choice("action", &options_.action, {"ls", "verify", "gc", "warm", "evict", "stats"},
              "of a disk tier: list what is there, read and check every block, or remove what is "
              "of no use; of a running server: bring a prompt's KV closer, drop KV, or show "
              "numbers; the word after sluice cache says the same")
      .required = true;
  flags.Group("ls, verify, gc");
  flags.String("kv-disk-dir", &options_.directory, "DIR", "the directory sluice serve was given");
  flags.Group("gc");
  flags.Strings("keep", &options_.keep, "ID",
                "model or layout to keep, as ls shows it (default: the one used last)");
  flags.Bool("dry-run", &options_.dry_run, "only say what would be removed");
  options_.live.Define(flags);
}

absl::Status CacheCommand::Validate() const {
  if (options_.is_live()) return options_.live.Validate(options_.action);
  if (options_.directory.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--kv-disk-dir: missing; ", options_.action,
                                                   " is of a directory of a disk tier"));
  }
  if (options_.action == "gc" || options_.keep.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--keep: is for gc, not for ", options_.action));
}

absl::StatusOr<std::vector<std::string>> CacheCommand::Ids() const {
  std::error_code error;
  if (!std::filesystem::is_directory(options_.directory, error)) {
    return absl::NotFoundError(
        absl::StrCat("--kv-disk-dir: ", options_.directory, " is not a directory"));
  }
  return ListNamespaces(options_.directory);
}

absl::Status CacheCommand::List(const CliIo& io) const {
  SLUICE_ASSIGN_OR_RETURN(const std::vector<std::string> ids, Ids());
  using Align = Table::Align;
  Table table({{"id", Align::kLeft},
               {"model", Align::kLeft},
               {"dtype", Align::kLeft},
               {"codec", Align::kLeft},
               {"blocks"},
               {"tokens"},
               {"on disk"},
               {"last used", Align::kLeft}});
  const absl::Time now = absl::Now();
  Bytes total;
  for (const std::string& id : ids) {
    const NamespaceSummary s = Summarize(options_.directory, id);
    total += s.size;
    const std::string age = AgeText(now - s.last_used);
    if (!s.status.ok()) {
      table.AddRow({id, "?", "?", "?", "?", "?", FormatBytes(s.size), age});
      io.err << "sluice: " << s.status.message() << '\n';
      continue;
    }
    const int64_t tokens = s.blocks * s.space.shape.tokens_per_block.value();
    table.AddRow({id, s.space.name, s.space.dtype, s.space.codec, absl::StrCat(s.blocks),
                  absl::StrCat(tokens), FormatBytes(s.size), age});
  }
  io.out << table.Render() << "total: " << FormatBytes(total);
  const int pid = DiskLock::Holder(options_.directory);
  if (pid != 0) io.out << "; in use by process " << pid;
  io.out << std::endl;
  return absl::OkStatus();
}

absl::Status CacheCommand::Verify(const CliIo& io) const {
  SLUICE_ASSIGN_OR_RETURN(const std::vector<std::string> ids, Ids());
  SLUICE_ASSIGN_OR_RETURN(const auto lock, DiskLock::Acquire(options_.directory));
  int64_t bad = 0;
  for (const std::string& id : ids) {
    const absl::StatusOr<NamespaceAudit> audit = AuditWithProgress(options_.directory, id, io);
    if (!audit.ok()) {
      ++bad;
      io.out << id << ": " << audit.status().message() << '\n';
      continue;
    }
    bad += static_cast<int64_t>(audit->bad.size() + audit->broken.size());
    io.out << id << ": " << audit->good << " blocks good, " << audit->bad.size() << " bad, "
           << audit->broken.size() << " records broken\n";
    for (const std::string& line : audit->why) io.out << "  " << line << '\n';
  }
  io.out << std::flush;
  if (bad == 0) return absl::OkStatus();
  return absl::DataLossError(
      "some of it is bad; a server notices and computes it again, sluice cache gc removes it");
}

absl::Status CacheCommand::Repair(const std::string& id, const CliIo& io) const {
  SLUICE_ASSIGN_OR_RETURN(NamespaceAudit audit, AuditWithProgress(options_.directory, id, io));
  std::vector<BlockId> slots = std::move(audit.bad);
  slots.insert(slots.end(), audit.broken.begin(), audit.broken.end());
  io.out << "keep " << id << ": " << audit.good << " blocks";
  if (!slots.empty()) io.out << "; remove " << slots.size() << " that are bad";
  io.out << '\n';
  return options_.dry_run ? absl::OkStatus() : EmptySlots(options_.directory, id, slots);
}

absl::Status CacheCommand::CollectGarbage(const CliIo& io) const {
  SLUICE_ASSIGN_OR_RETURN(const std::vector<std::string> ids, Ids());
  SLUICE_ASSIGN_OR_RETURN(const auto lock, DiskLock::Acquire(options_.directory));
  std::vector<std::string> keep = options_.keep;
  for (const std::string& id : keep) {
    if (std::find(ids.begin(), ids.end(), id) != ids.end()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--keep: ", id, " is not in ", options_.directory, " (see sluice cache ls)"));
  }
  std::vector<NamespaceSummary> all;
  for (const std::string& id : ids) all.push_back(Summarize(options_.directory, id));
  if (keep.empty() && !all.empty()) {
    const auto last = std::max_element(all.begin(), all.end(), [](const auto& a, const auto& b) {
      return a.last_used < b.last_used;
    });
    keep.push_back(last->id);
  }
  Bytes freed;
  for (const NamespaceSummary& s : all) {
    if (std::find(keep.begin(), keep.end(), s.id) != keep.end()) {
      SLUICE_RETURN_IF_ERROR(Repair(s.id, io));
      continue;
    }
    freed += s.size;
    io.out << "remove " << s.id << ": " << (s.status.ok() ? s.space.name : "unreadable") << ", "
           << s.blocks << " blocks, " << FormatBytes(s.size) << '\n';
    if (!options_.dry_run) SLUICE_RETURN_IF_ERROR(RemoveNamespace(options_.directory, s.id));
  }
  io.out << FormatBytes(freed)
         << (options_.dry_run ? " would be free; sluice cache gc --no-dry-run removes it"
                              : " freed")
         << std::endl;
  return absl::OkStatus();
}

int CacheCommand::Run(const FlagSet&, const CliIo& io) {
  if (options_.is_live()) return RunLiveCache(options_.action, options_.live, io);
  const absl::Status status = options_.action == "ls"       ? List(io)
                              : options_.action == "verify" ? Verify(io)
                                                            : CollectGarbage(io);
  if (!status.ok()) io.err << "sluice: " << status.message() << std::endl;
  return ExitCodeOf(status);
}

}  // namespace sluice
