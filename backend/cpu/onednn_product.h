// SliceProduct by oneDNN, with weights packed into the layout it asks for.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "backend/cpu/slice_product.h"

namespace sluice {

// What products share: oneDNN's engine, and a stream for every worker.
class OneDnn {
 public:
  explicit OneDnn(int workers);
  ~OneDnn();

  // Returns UNIMPLEMENTED if oneDNN has no product of this element on this CPU. This must outlive
  // the product. Call with OpenMP limited to one thread, as everything of the product.
  absl::StatusOr<std::unique_ptr<SliceProduct>> MakeProduct(const SliceShape& shape);

  // The instruction set oneDNN uses, for people: "AVX-512 bf16".
  static const char* Isa();

 private:
  friend class OneDnnProduct;
  struct Library;
  std::unique_ptr<Library> library_;
};

}  // namespace sluice
