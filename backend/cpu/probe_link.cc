#include "backend/cpu/probe_link.h"

#include <cstring>
#include <utility>
#include <vector>

#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice {

absl::StatusOr<std::unique_ptr<LinkProbe>> LinkProbe::Create(const KvLayout& layout, Blocks blocks,
                                                             const ProbeControl& control,
                                                             const KvCodecOptions& codec) {
  std::unique_ptr<LinkProbe> probe(new LinkProbe(layout, control));
  SLUICE_ASSIGN_OR_RETURN(probe->pools_, KvPools::Allocate(layout, blocks, blocks, codec));
  // The first touch of a page costs more than a copy. 0x3f3f3f3f is a number codecs take, 0.75.
  std::memset(probe->pools_.LayerPages(0), 0x3f,
              static_cast<size_t>(layout.layers * blocks.value() * layout.page_bytes()));
  std::memset(probe->pools_.HostLayer(0, BlockId(0)), 1, probe->BytesOf(blocks).size());
  LinkOptions options;
  options.clock = control.clock;
  probe->link_ = std::make_unique<Link>(probe->pools_, options, probe->meter_);
  probe->link_->SetListener([p = probe.get()] {
    {
      const std::lock_guard<std::mutex> lock(p->mu_);
      p->news_ = true;
    }
    p->done_.notify_one();
  });
  return probe;
}

Copy LinkProbe::MakeCopy(LinkDirection direction, Blocks first, Blocks count) {
  SLUICE_CHECK(count >= Blocks(1) && first + count <= pools_.device_blocks());
  Copy copy;
  copy.id = CopyId(next_id_++);
  copy.direction = direction;
  for (int64_t b = first.value(); b < (first + count).value(); ++b) {
    const BlockId block(static_cast<int32_t>(b));
    copy.blocks.push_back({block, block});
  }
  return copy;
}

absl::Status LinkProbe::Finish(std::span<const Copy> copies) {
  link_->Start(copies);
  for (size_t left = copies.size(); left > 0;) {
    {
      std::unique_lock<std::mutex> lock(mu_);
      done_.wait(lock, [this] { return news_; });
      news_ = false;
    }
    for (const CopyResult& result : link_->TakeFinished()) {
      SLUICE_RETURN_IF_ERROR(result.status);
      --left;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<RunTimes> LinkProbe::Time(LinkDirection direction, Blocks count) {
  return CollectTimes(control_, [&]() -> absl::StatusOr<absl::Duration> {
    const Copy copy = MakeCopy(direction, Blocks(0), count);
    const absl::Time start = control_.clock();
    SLUICE_RETURN_IF_ERROR(Finish({&copy, 1}));
    return control_.clock() - start;
  });
}

absl::StatusOr<RunTimes> LinkProbe::TimeDuplex(Blocks count) {
  return CollectTimes(control_, [&]() -> absl::StatusOr<absl::Duration> {
    const std::vector<Copy> copies = {MakeCopy(LinkDirection::kHostToDevice, Blocks(0), count),
                                      MakeCopy(LinkDirection::kDeviceToHost, count, count)};
    const absl::Time start = control_.clock();
    SLUICE_RETURN_IF_ERROR(Finish(copies));
    return control_.clock() - start;
  });
}

}  // namespace sluice
