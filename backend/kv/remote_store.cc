#include "backend/kv/remote_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

// Values asked for ahead, so that the server need not wait for us: enough for its round trip, and
// no more. It copies every value that it was asked for before it sends the first of them: what it
// was asked for at once should stay in its cache.
constexpr size_t kReadAheadBytes = 2 << 20;
constexpr size_t kReadAheadLocal = 512 << 10;
constexpr size_t kMostReadAhead = 64;
constexpr size_t kAskedAtOnce = 256 << 10;
// Values sent before the first of them is answered.
constexpr size_t kSendAhead = 8 << 20;
constexpr size_t kSendAheadLocal = 128 << 10;
// Blocks asked about at a time: first few, since most prompts are new.
constexpr size_t kFirstQuestions = 16;
constexpr size_t kMostQuestions = 1024;

}  // namespace

absl::StatusOr<std::unique_ptr<RemoteStore>> RemoteStore::Create(RemoteStoreOptions options) {
  StoreShape shape = options.space.shape;
  const RemoteValueFormat format(options.space);
  const auto cost = static_cast<int64_t>(format.value_bytes());
  shape.slots = Blocks(std::min<int64_t>(options.limit.value() / cost, INT32_MAX));
  if (shape.slots < Blocks(1)) {
    return absl::InvalidArgumentError(absl::StrCat("remote KV tier: ", options.limit.value(),
                                                   " bytes hold no block; one block takes ", cost));
  }
  SLUICE_RETURN_IF_ERROR(shape.Validate());
  return std::unique_ptr<RemoteStore>(new RemoteStore(std::move(options), shape));
}

RemoteStore::RemoteStore(RemoteStoreOptions options, const StoreShape& shape)
    : shape_(shape),
      format_(options.space),
      ttl_s_(absl::ToInt64Seconds(options.ttl)),
      pool_(std::move(options.pool)),
      slots_(shape.slots.size()) {}

std::string RemoteStore::description() const {
  return absl::StrCat(pool_.address().ToText(), ", kept for ",
                      ttl_s_ > 0 ? absl::StrCat(ttl_s_, " s") : "ever", ", ",
                      absl::FormatDuration(pool_.timeout()), " per answer");
}

// ---- Slots -----------------------------------------------------------------------------------

void RemoteStore::Unbind(BlockId slot) {
  std::lock_guard<std::mutex> lock(mu_);
  slots_[slot.index()] = Slot();
}

void RemoteStore::Remember(BlockId slot, const BlockIdentity& block) {
  std::lock_guard<std::mutex> lock(mu_);
  slots_[slot.index()] = Slot{block, false};
}

void RemoteStore::Bind(std::span<const StoredBlock> blocks) {
  for (const StoredBlock& block : blocks) Remember(block.slot, block.identity);
}

absl::Status RemoteStore::Leave(BlockId slot, bool remove) {
  Slot before;
  {
    std::lock_guard<std::mutex> lock(mu_);
    before = std::exchange(slots_[slot.index()], Slot());
  }
  if (!before.block.has_value() || !(remove || before.read)) return absl::OkStatus();
  return pool_.Run([&](RedisConnection& connection) {
    return connection.Call({"UNLINK", format_.Key(*before.block)}).status();
  });
}

void RemoteStore::Count(RemoteError error) {
  std::lock_guard<std::mutex> lock(mu_);
  ++stats_.errors[static_cast<size_t>(error)];
}

// What the server answers to every command, a trial's among them, is the breaker's concern; what it
// answers to this one says nothing of others.
absl::Status RemoteStore::Refusal(const std::string& text) {
  const auto is = [&](const char* code) { return absl::StartsWith(text, code); };
  const std::string said = absl::StrCat("the server says: ", text);
  if (is("OOM")) {
    Count(RemoteError::kFull);
    return absl::ResourceExhaustedError(
        absl::StrCat(said, "; give it more memory, or a maxmemory-policy that evicts"));
  }
  if (is("NOPERM") || is("READONLY")) {
    Count(RemoteError::kRefused);
    return absl::PermissionDeniedError(said);
  }
  const absl::Status status =
      is("NOAUTH") ? absl::PermissionDeniedError(said) : absl::UnavailableError(said);
  if (is("NOAUTH") || is("LOADING") || is("BUSY") || is("MASTERDOWN")) {
    pool_.NoteRefusal(status);
    return status;
  }
  Count(RemoteError::kOther);
  if (!is("MOVED") && !is("ASK") && !is("CLUSTERDOWN")) return status;
  return absl::UnavailableError(
      absl::StrCat(said, "; a Redis Cluster needs a proxy that speaks for all of it"));
}

// ---- Writing ---------------------------------------------------------------------------------

// The writes of one call: which are there already, then those that are not. Each is sealed while
// the server takes those before it.
class RemoteStore::WriteJob {
 public:
  WriteJob(RemoteStore& store, std::span<StoreWrite> writes,
           absl::FunctionRef<BlockRecord(size_t)> seal)
      : store_(store), writes_(writes), seal_(seal), sealed_(writes.size()) {
    for (size_t i = 0; i < writes.size(); ++i) left_.push_back(i);
  }

  // Again with another connection: with those that are left.
  absl::Status Run(RedisConnection& connection) {
    SLUICE_RETURN_IF_ERROR(Ask(connection));
    return Send(connection);
  }

  // Those that nobody answered for.
  void Fail(const absl::Status& status) {
    for (const size_t i : left_) writes_[i].status = status;
  }

 private:
  struct Sealed {
    BlockIdentity identity;
    std::vector<std::byte> head;  // empty: not sealed yet
  };

  absl::Status Ask(RedisConnection& connection) {
    std::vector<size_t> asked;
    std::vector<size_t> absent;
    for (const size_t i : left_) {
      if (writes_[i].identity == nullptr) {
        absent.push_back(i);
        continue;
      }
      asked.push_back(i);
      connection.Append(store_.Question(*writes_[i].identity));
    }
    SLUICE_RETURN_IF_ERROR(connection.Flush());
    for (const size_t i : asked) {
      SLUICE_ASSIGN_OR_RETURN(const RedisReply reply, connection.Receive());
      if (reply.type == RedisReply::Type::kInteger && reply.integer == 1) {
        Done(i, *writes_[i].identity, absl::OkStatus(), &RemoteStats::blocks_shared);
      } else {
        absent.push_back(i);
      }
    }
    left_ = std::move(absent);
    return absl::OkStatus();
  }

  absl::Status Send(RedisConnection& connection) {
    const size_t ahead = store_.SendAhead();
    const std::vector<size_t> all = left_;
    size_t answered = 0;
    const auto receive = [&]() -> absl::Status {
      SLUICE_ASSIGN_OR_RETURN(const RedisReply reply, connection.Receive());
      const size_t i = all[answered++];
      const bool refused = reply.type == RedisReply::Type::kError;
      Done(i, sealed_[i].identity, refused ? store_.Refusal(reply.text) : absl::OkStatus(),
           &RemoteStats::blocks_written);
      left_.assign(all.begin() + static_cast<std::ptrdiff_t>(answered), all.end());
      return absl::OkStatus();
    };
    for (size_t sent = 0; sent < all.size(); ++sent) {
      const Sealed& sealed = Seal(all[sent]);
      SLUICE_RETURN_IF_ERROR(connection.SendSet(store_.format_.Key(sealed.identity), sealed.head,
                                                writes_[all[sent]].payload, store_.ttl_s_));
      if (sent + 1 - answered >= ahead) SLUICE_RETURN_IF_ERROR(receive());
    }
    while (answered < all.size()) SLUICE_RETURN_IF_ERROR(receive());
    return absl::OkStatus();
  }

  const Sealed& Seal(size_t i) {
    Sealed& sealed = sealed_[i];
    if (!sealed.head.empty()) return sealed;
    const BlockRecord record = seal_(i);
    sealed.identity = record.identity;
    sealed.head.resize(store_.format_.head_bytes());
    store_.format_.EncodeHead(record, sealed.head);
    return sealed;
  }

  void Done(size_t i, const BlockIdentity& identity, absl::Status status,
            int64_t RemoteStats::*count) {
    if (status.ok()) {
      store_.Remember(writes_[i].slot, identity);
      std::lock_guard<std::mutex> lock(store_.mu_);
      ++(store_.stats_.*count);
    }
    writes_[i].status = std::move(status);
  }

  RemoteStore& store_;
  const std::span<StoreWrite> writes_;
  const absl::FunctionRef<BlockRecord(size_t)> seal_;
  std::vector<Sealed> sealed_;
  std::vector<size_t> left_;  // not answered yet, in order
};

// Over a network many values may be on their way at a time. A unix socket holds few, and whoever
// has to wait for room in it is woken late: there, one value is sealed while another is taken.
size_t RemoteStore::SendAhead() const {
  const size_t bytes = pool_.address().host.empty() ? kSendAheadLocal : kSendAhead;
  return std::max<size_t>(2, bytes / format_.value_bytes());
}

void RemoteStore::Write(std::span<StoreWrite> writes, absl::FunctionRef<BlockRecord(size_t)> seal) {
  for (const StoreWrite& write : writes) {
    SLUICE_CHECK(write.payload.size() == shape_.payload.size());
    Unbind(write.slot);
  }
  WriteJob job(*this, writes, seal);
  const absl::Status status =
      pool_.Run([&](RedisConnection& connection) { return job.Run(connection); });
  if (!status.ok()) job.Fail(status);
}

// ---- Reading ---------------------------------------------------------------------------------

class RemoteStore::ReadJob {
 public:
  ReadJob(RemoteStore& store, std::span<StoreRead> reads, absl::FunctionRef<void(size_t)> done)
      : store_(store),
        reads_(reads),
        done_(done),
        head_(store.format_.head_bytes()),
        ahead_(store.ReadAhead()),
        at_once_(std::clamp<size_t>(kAskedAtOnce / store.format_.value_bytes(), 1, ahead_ / 2)) {
    std::vector<size_t> empty;
    {
      std::lock_guard<std::mutex> lock(store.mu_);
      for (size_t i = 0; i < reads.size(); ++i) {
        const std::optional<BlockIdentity>& block = store.slots_[reads[i].slot.index()].block;
        if (block.has_value()) {
          left_.push_back(i);
          names_.push_back(*block);
        } else {
          empty.push_back(i);
        }
      }
    }
    for (const size_t i : empty) Done(i, absl::NotFoundError("the slot is empty"));
  }

  // Again with another connection: goes on where it was.
  absl::Status Run(RedisConnection& connection) {
    size_t asked = at_;
    while (at_ < left_.size()) {
      if (asked < left_.size() && asked - at_ + at_once_ <= ahead_) {
        const size_t until = std::min(left_.size(), at_ + ahead_);
        for (; asked < until; ++asked) {
          connection.Append({"GET", store_.format_.Key(names_[asked])});
        }
        SLUICE_RETURN_IF_ERROR(connection.Flush());
      }
      SLUICE_RETURN_IF_ERROR(ReceiveOne(connection, left_[at_]));
      ++at_;
    }
    return absl::OkStatus();
  }

  void Fail(const absl::Status& status) {
    for (; at_ < left_.size(); ++at_) Done(left_[at_], status);
  }

 private:
  absl::Status ReceiveOne(RedisConnection& connection, size_t i) {
    StoreRead& read = reads_[i];
    const size_t payload = store_.shape_.payload.size();
    const bool part = read.out.size() != payload;
    if (part) whole_.resize(payload);
    const std::span<std::byte> body = part ? std::span(whole_) : read.out;
    size_t size = 0;
    PayloadCheck* const check = part ? nullptr : read.check;
    const auto arrived = [check](size_t count) {
      if (check != nullptr) check->Arrived(count);
    };
    arrived(0);
    SLUICE_ASSIGN_OR_RETURN(const RedisReply reply,
                            connection.ReceiveValue(head_, body, &size, arrived));
    absl::Status status = Judge(read, reply, size);
    if (status.ok() && part) {
      const size_t from =
          static_cast<size_t>(read.first_layer) * store_.shape_.layer_bytes().size();
      std::copy_n(whole_.data() + from, read.out.size(), read.out.data());
    }
    Done(i, std::move(status));
    return absl::OkStatus();
  }

  absl::Status Judge(StoreRead& read, const RedisReply& reply, size_t size) {
    if (reply.type == RedisReply::Type::kNone) {
      return absl::NotFoundError("it is gone there: expired or evicted");
    }
    if (reply.type == RedisReply::Type::kError && !absl::StartsWith(reply.text, "WRONGTYPE")) {
      return store_.Refusal(reply.text);
    }
    {
      std::lock_guard<std::mutex> lock(store_.mu_);
      store_.slots_[read.slot.index()].read = true;
    }
    if (reply.type != RedisReply::Type::kValue || size != store_.format_.value_bytes()) {
      return absl::DataLossError(
          absl::StrCat("its value has ", size, " bytes, want ", store_.format_.value_bytes()));
    }
    SLUICE_ASSIGN_OR_RETURN(read.record, store_.format_.DecodeHead(head_));
    return absl::OkStatus();
  }

  void Done(size_t i, absl::Status status) {
    {
      std::lock_guard<std::mutex> lock(store_.mu_);
      if (status.ok()) ++store_.stats_.blocks_read;
      if (absl::IsNotFound(status)) ++store_.stats_.blocks_missed;
    }
    if (!status.ok() && reads_[i].check != nullptr) reads_[i].check->Arrived(0);
    reads_[i].status = std::move(status);
    done_(i);
  }

  RemoteStore& store_;
  const std::span<StoreRead> reads_;
  const absl::FunctionRef<void(size_t)> done_;
  std::vector<std::byte> head_;
  std::vector<std::byte> whole_;
  const size_t ahead_;
  const size_t at_once_;
  std::vector<size_t> left_;
  std::vector<BlockIdentity> names_;  // of left_
  size_t at_ = 0;                     // of left_; those before are done
};

size_t RemoteStore::ReadAhead() const {
  const size_t bytes = pool_.address().host.empty() ? kReadAheadLocal : kReadAheadBytes;
  return std::clamp<size_t>(bytes / format_.value_bytes(), 2, kMostReadAhead);
}

void RemoteStore::Read(std::span<StoreRead> reads, absl::FunctionRef<void(size_t)> done) {
  ReadJob job(*this, reads, done);
  const absl::Status status =
      pool_.Run([&](RedisConnection& connection) { return job.Run(connection); });
  if (!status.ok()) job.Fail(status);
}

// ---- Finding ---------------------------------------------------------------------------------

std::vector<std::string> RemoteStore::Question(const BlockIdentity& block) const {
  if (ttl_s_ > 0) return {"EXPIRE", format_.Key(block), absl::StrCat(ttl_s_)};
  return {"EXISTS", format_.Key(block)};
}

absl::StatusOr<size_t> RemoteStore::Find(std::span<const BlockIdentity> blocks) {
  size_t found = 0;
  const absl::Status asked = pool_.Run([&](RedisConnection& connection) -> absl::Status {
    found = 0;
    size_t batch = kFirstQuestions;
    while (found < blocks.size()) {
      const size_t count = std::min(batch, blocks.size() - found);
      for (size_t i = 0; i < count; ++i) connection.Append(Question(blocks[found + i]));
      SLUICE_RETURN_IF_ERROR(connection.Flush());
      size_t there = 0;
      bool all = true;
      for (size_t i = 0; i < count; ++i) {
        SLUICE_ASSIGN_OR_RETURN(const RedisReply reply, connection.Receive());
        if (reply.type == RedisReply::Type::kError) (void)Refusal(reply.text);
        all = all && reply.type == RedisReply::Type::kInteger && reply.integer == 1;
        if (all) ++there;
      }
      found += there;
      if (!all) break;
      batch = std::min(batch * 4, kMostQuestions);
    }
    return absl::OkStatus();
  });
  SLUICE_RETURN_IF_ERROR(asked);
  std::lock_guard<std::mutex> lock(mu_);
  ++stats_.lookups;
  stats_.blocks_found += static_cast<int64_t>(found);
  return found;
}

RemoteStats RemoteStore::stats() const {
  RemoteStats stats;
  {
    std::lock_guard<std::mutex> lock(mu_);
    stats = stats_;
  }
  pool_.AddStats(&stats);
  return stats;
}

}  // namespace sluice
