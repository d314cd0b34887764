// Copies: checked when they are issued, done when their stream gets there.
#include <algorithm>
#include <memory>
#include <vector>

#include "cuda_emu/diagnostic.h"
#include "cuda_emu/execution.h"
#include "cuda_emu/machine.h"
#include "cuda_emu/random.h"
#include "cuda_emu/sanitizer.h"

namespace cuda_emu {
namespace {

struct Piece {
  void* dst;
  const void* src;
  size_t bytes;
  std::shared_ptr<std::vector<unsigned char>> early;  // the source, if read during the call
};

// Where a copy goes, and what it costs. error: a cudaError, with the rest undefined.
struct Route {
  int error = cudaSuccess;
  Engine engine{};
  const CopyCost* cost = nullptr;
  bool host_source = false;
};

Engine EngineOf(cudaMemcpyKind kind) {
  return kind == cudaMemcpyHostToDevice   ? Engine::kHostToDevice
         : kind == cudaMemcpyDeviceToHost ? Engine::kDeviceToHost
                                          : Engine::kDeviceToDevice;
}

const CopyCost& CostOf(const Config& config, Engine engine) {
  return engine == Engine::kHostToDevice   ? config.host_to_device
         : engine == Engine::kDeviceToHost ? config.device_to_host
                                           : config.device_to_device;
}

double SizeCost(const CopyCost& cost, size_t bytes) {
  return cost.bytes_per_second > 0 ? static_cast<double>(bytes) / cost.bytes_per_second * 1e6 : 0;
}

// Checks one copy of a span of `dst_bytes` and `src_bytes`. REQUIRES: m->mutex held.
Route FindRoute(Machine* m, const void* dst, size_t dst_bytes, const void* src, size_t src_bytes,
                cudaMemcpyKind kind) {
  size_t dst_offset = 0;
  size_t src_offset = 0;
  const Allocation* const to = m->memory.Find(dst, &dst_offset);
  const Allocation* const from = m->memory.Find(src, &src_offset);
  if ((to != nullptr && dst_offset + dst_bytes > to->bytes) ||
      (from != nullptr && src_offset + src_bytes > from->bytes)) {
    AddDiagnostic("copy", "a copy of " + std::to_string(src_bytes) +
                              " bytes runs past the end of an allocation or registration");
    return {.error = cudaErrorInvalidValue};
  }
  const bool to_device = to != nullptr && to->kind == MemoryKind::kDevice;
  const bool from_device = from != nullptr && from->kind == MemoryKind::kDevice;
  const cudaMemcpyKind real =
      to_device ? (from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice)
                : (from_device ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost);
  if (kind != cudaMemcpyDefault && kind != real) {
    AddDiagnostic("copy", "the kind of a copy does not match its pointers");
    return {.error = cudaErrorInvalidMemcpyDirection};
  }
  if (m->config.strict && (to == nullptr || from == nullptr)) {
    AddDiagnostic("pageable",
                  "an asynchronous copy touches pageable host memory: it would wait for the host");
  }
  const Engine engine = EngineOf(real);
  return {cudaSuccess, engine, &CostOf(m->config, engine), !from_device};
}

std::shared_ptr<Operation> CopyOperation(std::string name, Engine engine, double cost_us,
                                         size_t bytes) {
  auto operation = std::make_shared<Operation>();
  operation->kind = OperationKind::kCopy;
  operation->name = std::move(name);
  operation->on_engine = true;
  operation->engine = engine;
  operation->cost_us = cost_us;
  operation->bytes = bytes;
  return operation;
}

// Copies of a batch have no order, so one must not write what another reads or writes.
void CheckIndependent(const std::vector<Piece>& pieces) {
  std::vector<std::pair<const char*, size_t>> written;
  for (const Piece& p : pieces) written.emplace_back(static_cast<const char*>(p.dst), p.bytes);
  std::sort(written.begin(), written.end());
  bool overlap = false;
  for (size_t i = 1; i < written.size(); ++i) {
    overlap |= written[i - 1].first + written[i - 1].second > written[i].first;
  }
  for (const Piece& p : pieces) {
    const auto* const begin = static_cast<const char*>(p.src);
    const auto next =
        std::lower_bound(written.begin(), written.end(), std::pair<const char*, size_t>(begin, 0));
    overlap |= next != written.end() && next->first < begin + p.bytes;
    overlap |= next != written.begin() && std::prev(next)->first + std::prev(next)->second > begin;
  }
  if (overlap) AddDiagnostic("copy", "copies of one batch depend on each other");
}

bool ValidAttributes(const cudaMemcpyAttributes* attributes, const size_t* indices, size_t count,
                     size_t copies) {
  if (attributes == nullptr || indices == nullptr || count == 0 || count > copies) return false;
  for (size_t i = 0; i < count; ++i) {
    const int order = attributes[i].srcAccessOrder;
    if (order < cudaMemcpySrcAccessOrderStream || order > cudaMemcpySrcAccessOrderAny) return false;
    if (i == 0 ? indices[0] != 0 : indices[i] <= indices[i - 1]) return false;
  }
  return indices[count - 1] < copies;
}

// Whether the source is read before the call returns; for "any" order either may happen.
bool ReadsNow(Machine* m, const Route& route, cudaMemcpySrcAccessOrder order) {
  if (!route.host_source || order == cudaMemcpySrcAccessOrderStream) return false;
  return order == cudaMemcpySrcAccessOrderDuringApiCall || (NextRandom(&m->random) & 1) != 0;
}

struct Batch {
  std::vector<Piece> pieces;
  Engine engine{};
  double cost_us = 0;
  size_t bytes = 0;
};

// REQUIRES: m->mutex held.
int PlanBatch(Machine* m, void* const* dsts, const void* const* srcs, const size_t* sizes,
              size_t count, const cudaMemcpyAttributes* attributes, const size_t* indices,
              size_t attribute_count, Batch* batch) {
  const CopyCost* cost = nullptr;
  size_t attribute = 0;
  for (size_t i = 0; i < count; ++i) {
    while (attribute + 1 < attribute_count && indices[attribute + 1] <= i) ++attribute;
    const Route route = FindRoute(m, dsts[i], sizes[i], srcs[i], sizes[i], cudaMemcpyDefault);
    if (route.error != cudaSuccess) return route.error;
    cost = route.cost;
    batch->engine = route.engine;
    batch->cost_us += cost->per_batch_copy_us + SizeCost(*cost, sizes[i]);
    batch->bytes += sizes[i];
    Piece piece{dsts[i], srcs[i], sizes[i], nullptr};
    if (ReadsNow(m, route, attributes[attribute].srcAccessOrder)) {
      piece.early = std::make_shared<std::vector<unsigned char>>(sizes[i]);
      const TsanLoud loud;
      SeenCopy(piece.early->data(), srcs[i], sizes[i]);
    }
    batch->pieces.push_back(std::move(piece));
  }
  batch->cost_us += cost->per_batch_us;
  if (m->config.strict) CheckIndependent(batch->pieces);
  Shuffled(&batch->pieces, &m->random);
  return cudaSuccess;
}

// A copy that the caller may wait for at once is exempt from the diagnostics about asynchrony.
class Lenient {
 public:
  Lenient() : strict_(TheMachine().config.strict) { TheMachine().config.strict = false; }
  ~Lenient() { TheMachine().config.strict = strict_; }
  Lenient(const Lenient&) = delete;
  Lenient& operator=(const Lenient&) = delete;

 private:
  bool strict_;
};

// The synchronous forms run on the legacy default stream: after streams that block, and not after
// others. A missing synchronise of a non-blocking stream shows.
template <class Issue>
cudaError_t Synchronously(Issue issue) {
  const TsanQuiet quiet;
  if (const int error = WaitForBlockingStreams()) return Returned(error);
  const Lenient lenient;
  if (const cudaError_t error = issue()) return error;
  return Returned(WaitForStream(TheMachine().streams[0].get()));
}

}  // namespace
}  // namespace cuda_emu

// NOLINTNEXTLINE(google-build-using-namespace): the definitions below are CUDA's, with C linkage.
using namespace cuda_emu;

extern "C" {

cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kMemcpy)) return Returned(error);
  Route route;
  {
    const std::lock_guard<std::mutex> lock(TheMachine().mutex);
    route = FindRoute(&TheMachine(), dst, bytes, src, bytes, kind);
  }
  if (route.error != cudaSuccess) return Returned(route.error);
  auto operation = CopyOperation("memcpy", route.engine,
                                 route.cost->per_copy_us + SizeCost(*route.cost, bytes), bytes);
  operation->run = [=] { SeenCopy(dst, src, bytes); };
  return Returned(Enqueue(stream, std::move(operation)));
}

cudaError_t cudaMemcpy2DAsync(void* dst, size_t dst_pitch, const void* src, size_t src_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kMemcpy)) return Returned(error);
  if (width > dst_pitch || width > src_pitch) return Returned(cudaErrorInvalidValue);
  if (width == 0 || height == 0) return cudaSuccess;
  Route route;
  {
    const std::lock_guard<std::mutex> lock(TheMachine().mutex);
    route = FindRoute(&TheMachine(), dst, (height - 1) * dst_pitch + width, src,
                      (height - 1) * src_pitch + width, kind);
  }
  if (route.error != cudaSuccess) return Returned(route.error);
  auto operation = CopyOperation("memcpy2d", route.engine,
                                 route.cost->per_copy_us + SizeCost(*route.cost, width * height),
                                 width * height);
  operation->run = [=] {
    for (size_t row = 0; row < height; ++row) {
      SeenCopy(static_cast<char*>(dst) + row * dst_pitch,
               static_cast<const char*>(src) + row * src_pitch, width);
    }
  };
  return Returned(Enqueue(stream, std::move(operation)));
}

cudaError_t cudaMemcpyBatchAsync(void* const* dsts, const void* const* srcs, const size_t* sizes,
                                 size_t count, cudaMemcpyAttributes* attributes,
                                 size_t* attribute_indices, size_t attribute_count,
                                 cudaStream_t stream) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kMemcpyBatch)) return Returned(error);
  if (stream == nullptr || count == 0 ||
      !ValidAttributes(attributes, attribute_indices, attribute_count, count)) {
    return Returned(cudaErrorInvalidValue);
  }
  auto batch = std::make_shared<Batch>();
  {
    const std::lock_guard<std::mutex> lock(TheMachine().mutex);
    if (const int error = PlanBatch(&TheMachine(), dsts, srcs, sizes, count, attributes,
                                    attribute_indices, attribute_count, batch.get())) {
      return Returned(error);
    }
  }
  auto operation = CopyOperation("batch[" + std::to_string(count) + "]", batch->engine,
                                 batch->cost_us, batch->bytes);
  operation->run = [batch] {
    for (const Piece& p : batch->pieces) {
      SeenCopy(p.dst, p.early == nullptr ? p.src : p.early->data(), p.bytes);
    }
  };
  batch.reset();
  return Returned(Enqueue(stream, std::move(operation)));
}

cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kMemcpy)) return Returned(error);
  {
    const std::lock_guard<std::mutex> lock(TheMachine().mutex);
    size_t offset = 0;
    const Allocation* const to = TheMachine().memory.Find(pointer, &offset);
    if (to == nullptr || offset + bytes > to->bytes) return Returned(cudaErrorInvalidValue);
  }
  auto operation = CopyOperation("memset", Engine::kDeviceToDevice,
                                 SizeCost(CurrentConfig().device_to_device, bytes), bytes);
  operation->run = [=] { SeenFill(pointer, value, bytes); };
  return Returned(Enqueue(stream, std::move(operation)));
}

cudaError_t cudaMemcpy(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind) {
  return Synchronously([=] { return cudaMemcpyAsync(dst, src, bytes, kind, nullptr); });
}
cudaError_t cudaMemset(void* pointer, int value, size_t bytes) {
  return Synchronously([=] { return cudaMemsetAsync(pointer, value, bytes, nullptr); });
}

}  // extern "C"
