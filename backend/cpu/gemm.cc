#include "backend/cpu/gemm.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

// Outputs per slice: wide enough to keep oneDNN's overhead per call small, narrow enough to keep
// many threads busy.
int64_t SliceWidth(int64_t outputs) { return outputs >= 1024 ? 128 : 64; }

// Row counts there is a kernel for: every one to 16, then multiples of 16.
int64_t KernelRows(int64_t rows) { return rows <= 16 ? rows : (rows + 15) / 16 * 16; }

dnnl::memory::data_type DataType(Element e) {
  return e == Element::kF32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
}

dnnl::memory::desc RowMajor(int64_t rows, int64_t columns, dnnl::memory::data_type type) {
  return {{rows, columns}, type, dnnl::memory::format_tag::ab};
}

// y[rows, width] = x[rows, inputs] * W[inputs, width]; W in the layout `weights`.
dnnl::matmul::primitive_desc Describe(const dnnl::engine& engine, int64_t rows, int64_t inputs,
                                      Element element, const dnnl::memory::desc& weights) {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const int64_t width = weights.dims()[1];
  const dnnl::matmul::desc desc(RowMajor(rows, inputs, DataType(element)), weights,
                                RowMajor(rows, width, dnnl::memory::data_type::f32));
  return {desc, attr, engine};
}

dnnl::memory::desc AnyLayout(int64_t inputs, int64_t width, Element element) {
  return {{inputs, width}, DataType(element), dnnl::memory::format_tag::any};
}

absl::Status Refused(const char* doing, const dnnl::error& e) {
  return absl::InternalError(absl::StrCat("oneDNN refused to ", doing, ": ", e.what()));
}

constexpr size_t RoundUp(size_t n, size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

}  // namespace

struct Gemm::Library {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
};

// The product for one count of rows.
struct Gemm::Kernel {
  // What one worker passes to it; only the pointers inside change from call to call.
  struct Arguments {
    dnnl::memory source, weights, target, scratch;
    std::array<dnnl_exec_arg_t, 4> list;
  };
  dnnl::matmul primitive;
  size_t scratch_bytes = 0;
  std::vector<Arguments> arguments;  // per worker
};

struct Gemm::Shape {
  int64_t inputs;
  int64_t width;
  Element element;
  dnnl::memory::desc packed;  // layout of W
  std::map<int64_t, std::unique_ptr<Kernel>> kernels;
};

struct Gemm::WorkerState {
  explicit WorkerState(const dnnl::engine& engine) : stream(engine) {}
  dnnl::stream stream;
  std::vector<float> tile;
  HugeBuffer scratch;
};

bool Gemm::Supports(Element element) {
  if (element == Element::kF32) return true;
  try {
    const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    Describe(engine, kRowBlock, 64, element, AnyLayout(64, 64, element));
    return true;
  } catch (const dnnl::error&) {
    return false;
  }
}

const char* Gemm::Isa() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::avx512_core_amx:
      return "AMX bf16";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "AVX-512 bf16";
    case dnnl::cpu_isa::avx512_core_vnni:
    case dnnl::cpu_isa::avx512_core:
      return "AVX-512";
    case dnnl::cpu_isa::avx2_vnni:
    case dnnl::cpu_isa::avx2:
      return "AVX2";
    default:
      return "portable";
  }
}

Gemm::Gemm(ThreadPool& pool) : pool_(pool), library_(std::make_unique<Library>()) {
  for (int i = 0; i < pool.size(); ++i) {
    workers_.push_back(std::make_unique<WorkerState>(library_->engine));
  }
}

Gemm::~Gemm() = default;

int Gemm::ShapeIndex(int64_t inputs, int64_t width, Element element) {
  const auto [it, added] =
      shape_index_.try_emplace({inputs, width, element}, static_cast<int>(shapes_.size()));
  if (added) {
    auto shape = std::make_unique<Shape>();
    shape->inputs = inputs;
    shape->width = width;
    shape->element = element;
    shape->packed =
        Describe(library_->engine, kRowBlock, inputs, element, AnyLayout(inputs, width, element))
            .weights_desc();
    shapes_.push_back(std::move(shape));
  }
  return it->second;
}

absl::StatusOr<PackedMatrix> Gemm::Pack(int64_t outputs, int64_t inputs, Element element,
                                        ReadRow read_row) {
  SLUICE_CHECK(outputs > 0 && inputs > 0);
  const ThreadPool::CallerScope scope(pool_);
  PackedMatrix matrix;
  matrix.element_ = element;
  matrix.outputs_ = outputs;
  matrix.inputs_ = inputs;
  try {
    size_t size = 0;
    const int64_t step = SliceWidth(outputs);
    for (int64_t first = 0; first < outputs; first += step) {
      const int64_t width = std::min(step, outputs - first);
      const int shape = ShapeIndex(inputs, width, element);
      matrix.slices_.push_back({first, width, shape, size});
      size += RoundUp(shapes_[static_cast<size_t>(shape)]->packed.get_size(), 4096);
    }
    SLUICE_ASSIGN_OR_RETURN(matrix.storage_,
                            HugeBuffer::Allocate(Bytes(static_cast<int64_t>(size)), "weights"));
  } catch (const dnnl::error& e) {
    return Refused("lay out a matrix", e);
  }
  std::atomic<bool> failed{false};
  pool_.ParallelFor(static_cast<int64_t>(matrix.slices_.size()), [&](int64_t task, int worker) {
    const PackedMatrix::Slice& slice = matrix.slices_[static_cast<size_t>(task)];
    const Shape& shape = *shapes_[static_cast<size_t>(slice.shape)];
    const auto count = static_cast<size_t>(slice.width * inputs);
    std::vector<float> wide(count);
    for (int64_t row = 0; row < slice.width; ++row) {
      read_row(slice.first + row, {wide.data() + row * inputs, static_cast<size_t>(inputs)});
    }
    std::vector<uint16_t> narrow;
    if (element == Element::kBF16) {
      narrow.resize(count);
      std::transform(wide.begin(), wide.end(), narrow.begin(), FloatToBF16);
    }
    void* plain = narrow.empty() ? static_cast<void*>(wide.data()) : narrow.data();
    try {
      dnnl::memory source({{inputs, slice.width}, DataType(element), dnnl::memory::format_tag::ba},
                          library_->engine, plain);
      dnnl::memory target(shape.packed, library_->engine, matrix.storage_.data() + slice.offset);
      dnnl::stream& stream = workers_[static_cast<size_t>(worker)]->stream;
      dnnl::reorder(source, target).execute(stream, source, target);
      stream.wait();
    } catch (const dnnl::error&) {
      failed.store(true);
    }
  });
  if (failed.load()) return absl::InternalError("oneDNN refused to reorder a weight matrix");
  return matrix;
}

Gemm::Kernel& Gemm::KernelFor(Shape& shape, int64_t rows) {
  std::unique_ptr<Kernel>& slot = shape.kernels[rows];
  if (slot != nullptr) return *slot;
  auto kernel = std::make_unique<Kernel>();
  const dnnl::engine& engine = library_->engine;
  const auto desc = Describe(engine, rows, shape.inputs, shape.element, shape.packed);
  kernel->primitive = dnnl::matmul(desc);
  kernel->scratch_bytes = desc.scratchpad_desc().get_size();
  kernel->arguments.resize(workers_.size());
  for (Kernel::Arguments& a : kernel->arguments) {
    a.source = dnnl::memory(desc.src_desc(), engine, DNNL_MEMORY_NONE);
    a.weights = dnnl::memory(desc.weights_desc(), engine, DNNL_MEMORY_NONE);
    a.target = dnnl::memory(desc.dst_desc(), engine, DNNL_MEMORY_NONE);
    a.scratch = dnnl::memory(desc.scratchpad_desc(), engine, DNNL_MEMORY_NONE);
    a.list = {dnnl_exec_arg_t{DNNL_ARG_SRC, a.source.get()},
              dnnl_exec_arg_t{DNNL_ARG_WEIGHTS, a.weights.get()},
              dnnl_exec_arg_t{DNNL_ARG_DST, a.target.get()},
              dnnl_exec_arg_t{DNNL_ARG_SCRATCHPAD, a.scratch.get()}};
  }
  slot = std::move(kernel);
  return *slot;
}

// Makes the kernels and scratch a product needs, so that workers only read.
absl::Status Gemm::Prepare(const PackedMatrix& w, int64_t rows) {
  size_t scratch = 0;
  int64_t width = 0;
  try {
    int last = -1;
    for (const PackedMatrix::Slice& slice : w.slices_) {
      if (slice.shape == last) continue;
      last = slice.shape;
      Shape& shape = *shapes_[static_cast<size_t>(last)];
      width = std::max(width, shape.width);
      if (rows >= kRowBlock) scratch = std::max(scratch, KernelFor(shape, kRowBlock).scratch_bytes);
      if (const int64_t rest = KernelRows(rows % kRowBlock); rest > 0) {
        scratch = std::max(scratch, KernelFor(shape, rest).scratch_bytes);
      }
    }
  } catch (const dnnl::error& e) {
    return Refused("make a matrix product", e);
  }
  for (const auto& worker : workers_) {
    const auto tile = static_cast<size_t>(kRowBlock * width);
    if (worker->tile.size() < tile) worker->tile.resize(tile);
    if (worker->scratch.size().size() < scratch) {
      SLUICE_ASSIGN_OR_RETURN(
          worker->scratch,
          HugeBuffer::Allocate(Bytes(static_cast<int64_t>(scratch)), "scratch of matrix products"));
    }
  }
  return absl::OkStatus();
}

absl::Status Gemm::Multiply(const void* x, int64_t rows, const PackedMatrix& w, TileFn fn) {
  SLUICE_RETURN_IF_ERROR(Prepare(w, rows));
  const int64_t blocks = (rows + kRowBlock - 1) / kRowBlock;
  const int64_t row_bytes = w.inputs_ * ElementBytes(w.element_);
  std::atomic<bool> failed{false};
  const auto multiply_tile = [&](int64_t task, int worker) {
    const PackedMatrix::Slice& slice = w.slices_[static_cast<size_t>(task / blocks)];
    const int64_t row = task % blocks * kRowBlock;
    const int64_t count = std::min(kRowBlock, rows - row);
    const Shape& shape = *shapes_[static_cast<size_t>(slice.shape)];
    Kernel& kernel = *shape.kernels.find(KernelRows(count))->second;
    Kernel::Arguments& a = kernel.arguments[static_cast<size_t>(worker)];
    WorkerState& state = *workers_[static_cast<size_t>(worker)];
    // oneDNN does not write through the source pointers; its API has no const.
    void* source = const_cast<std::byte*>(static_cast<const std::byte*>(x) + row * row_bytes);
    dnnl_stream_t stream = state.stream.get();
    dnnl_memory_set_data_handle_v2(a.source.get(), source, stream);
    dnnl_memory_set_data_handle_v2(a.weights.get(), w.storage_.data() + slice.offset, stream);
    dnnl_memory_set_data_handle_v2(a.target.get(), state.tile.data(), stream);
    dnnl_memory_set_data_handle_v2(a.scratch.get(), state.scratch.data(), stream);
    if (dnnl_primitive_execute(kernel.primitive.get(), stream, static_cast<int>(a.list.size()),
                               a.list.data()) != dnnl_success) {
      failed.store(true, std::memory_order_relaxed);
      return;
    }
    fn({row, count, slice.first, slice.width, state.tile.data()}, worker);
  };
  pool_.ParallelFor(static_cast<int64_t>(w.slices_.size()) * blocks, multiply_tile);
  if (failed.load()) return absl::InternalError("oneDNN could not run a matrix product");
  return absl::OkStatus();
}

}  // namespace sluice
