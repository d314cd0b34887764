#include "backend/cpu/onednn_product.h"

#include <algorithm>
#include <array>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"

namespace sluice {
namespace {

// Row counts the weights' layout is chosen for.
constexpr int64_t kTypicalRows = 64;

// Row counts there is a kernel for: every one to 16, then multiples of 16.
int64_t KernelRows(int64_t rows) { return rows <= 16 ? rows : (rows + 15) / 16 * 16; }

dnnl::memory::data_type DataType(Element e) {
  return e == Element::kF32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
}

absl::Status Refused(const char* doing, const dnnl::error& e) {
  return absl::InternalError(absl::StrCat("oneDNN refused to ", doing, ": ", e.what()));
}

}  // namespace

struct OneDnn::Library {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  std::vector<dnnl::stream> streams;  // per worker
};

class OneDnnProduct : public SliceProduct {
 public:
  OneDnnProduct(OneDnn::Library& library, const SliceShape& shape)
      : library_(library), shape_(shape) {
    using Tag = dnnl::memory::format_tag;
    const dnnl::memory::desc any({shape.inputs, shape.outputs}, DataType(shape.element), Tag::any);
    layout_ = Describe(kTypicalRows, any).weights_desc();
  }

  const SliceShape& shape() const override { return shape_; }
  size_t packed_bytes() const override { return layout_.get_size(); }
  absl::Status Pack(const float* weights, std::byte* packed) override;
  absl::StatusOr<size_t> Prepare(int64_t rows) override;
  bool Multiply(const void* x, int64_t rows, const std::byte* packed, float* y, std::byte* scratch,
                int worker) const override;

 private:
  // The product for one count of rows.
  struct Kernel {
    // What one worker passes to it; only the pointers inside change from call to call.
    struct Arguments {
      dnnl::memory source, weights, target, scratch;
      std::array<dnnl_exec_arg_t, 4> list;
    };
    dnnl::matmul primitive;
    size_t scratch_bytes = 0;
    std::vector<Arguments> arguments;  // per worker
  };

  dnnl::matmul::primitive_desc Describe(int64_t rows, const dnnl::memory::desc& weights) const {
    using Tag = dnnl::memory::format_tag;
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::matmul::desc desc({{rows, shape_.inputs}, DataType(shape_.element), Tag::ab},
                                  weights,
                                  {{rows, shape_.outputs}, dnnl::memory::data_type::f32, Tag::ab});
    return {desc, attr, library_.engine};
  }
  std::unique_ptr<Kernel> MakeKernel(int64_t rows) const;

  OneDnn::Library& library_;
  SliceShape shape_;
  dnnl::memory::desc layout_;
  std::map<int64_t, std::unique_ptr<Kernel>> kernels_;  // by KernelRows; at most 19
};

absl::Status OneDnnProduct::Pack(const float* weights, std::byte* packed) {
  const auto count = static_cast<size_t>(shape_.inputs * shape_.outputs);
  std::vector<uint16_t> narrow;
  // oneDNN does not write through the source's pointer; its API has no const.
  void* plain = const_cast<float*>(weights);
  if (shape_.element == Element::kBF16) {
    narrow.resize(count);
    std::transform(weights, weights + count, narrow.begin(), FloatToBF16);
    plain = narrow.data();
  }
  try {
    const dnnl::memory::desc desc({shape_.inputs, shape_.outputs}, DataType(shape_.element),
                                  dnnl::memory::format_tag::ba);
    dnnl::memory source(desc, library_.engine, plain);
    dnnl::memory target(layout_, library_.engine, packed);
    dnnl::stream stream(library_.engine);
    dnnl::reorder(source, target).execute(stream, source, target);
    stream.wait();
  } catch (const dnnl::error& e) {
    return Refused("pack weights", e);
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> OneDnnProduct::Prepare(int64_t rows) {
  try {
    std::unique_ptr<Kernel>& kernel = kernels_[KernelRows(rows)];
    if (kernel == nullptr) kernel = MakeKernel(KernelRows(rows));
    return kernel->scratch_bytes;
  } catch (const dnnl::error& e) {
    return Refused("make a matrix product", e);
  }
}

std::unique_ptr<OneDnnProduct::Kernel> OneDnnProduct::MakeKernel(int64_t rows) const {
  auto kernel = std::make_unique<Kernel>();
  const dnnl::engine& engine = library_.engine;
  const auto desc = Describe(rows, layout_);
  kernel->primitive = dnnl::matmul(desc);
  kernel->scratch_bytes = desc.scratchpad_desc().get_size();
  kernel->arguments.resize(library_.streams.size());
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
  return kernel;
}

bool OneDnnProduct::Multiply(const void* x, int64_t rows, const std::byte* packed, float* y,
                             std::byte* scratch, int worker) const {
  const auto found = kernels_.find(KernelRows(rows));
  SLUICE_CHECK(found != kernels_.end());
  const Kernel& kernel = *found->second;
  const Kernel::Arguments& a = kernel.arguments[static_cast<size_t>(worker)];
  dnnl_stream_t stream = library_.streams[static_cast<size_t>(worker)].get();
  dnnl_memory_set_data_handle_v2(a.source.get(), const_cast<void*>(x), stream);
  dnnl_memory_set_data_handle_v2(a.weights.get(), const_cast<std::byte*>(packed), stream);
  dnnl_memory_set_data_handle_v2(a.target.get(), y, stream);
  dnnl_memory_set_data_handle_v2(a.scratch.get(), scratch, stream);
  return dnnl_primitive_execute(kernel.primitive.get(), stream, static_cast<int>(a.list.size()),
                                a.list.data()) == dnnl_success;
}

OneDnn::OneDnn(int workers) : library_(std::make_unique<Library>()) {
  for (int i = 0; i < workers; ++i) library_->streams.emplace_back(library_->engine);
}

OneDnn::~OneDnn() = default;

absl::StatusOr<std::unique_ptr<SliceProduct>> OneDnn::MakeProduct(const SliceShape& shape) {
  try {
    return std::make_unique<OneDnnProduct>(*library_, shape);
  } catch (const dnnl::error& e) {
    return absl::UnimplementedError(absl::StrCat("oneDNN has no such product here: ", e.what()));
  }
}

const char* OneDnn::Isa() {
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

}  // namespace sluice
