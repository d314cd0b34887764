#include "backend/cpu/probe_numbers.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <span>

namespace sluice {

std::vector<float> RandomFloats(int64_t count) {
  std::vector<float> numbers(static_cast<size_t>(count));
  std::mt19937 random(1);
  for (float& number : numbers) number = static_cast<float>(random() % 2048) / 1024.0F - 1.0F;
  return numbers;
}

absl::StatusOr<PackedMatrix> PackNumbers(Gemm& gemm, Element element, int64_t outputs,
                                         int64_t inputs) {
  constexpr int64_t kShifts = 61;
  const std::vector<float> numbers = RandomFloats(inputs + kShifts);
  return gemm.Pack(outputs, inputs, element, [&](int64_t row, std::span<float> out) {
    std::copy_n(numbers.begin() + row % kShifts, out.size(), out.begin());
  });
}

void WriteElements(Element element, int64_t count, std::byte* out) {
  const std::vector<float> numbers = RandomFloats(4096);
  const size_t bytes = static_cast<size_t>(ElementBytes(element));
  for (int64_t i = 0; i < count; ++i, out += bytes) {
    const float number = numbers[static_cast<size_t>(i) % numbers.size()];
    if (element == Element::kF32) {
      std::memcpy(out, &number, sizeof(number));
    } else {
      const uint16_t narrow = FloatToBF16(number);
      std::memcpy(out, &narrow, sizeof(narrow));
    }
  }
}

}  // namespace sluice
