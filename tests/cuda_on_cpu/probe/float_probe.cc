#include "tests/cuda_on_cpu/probe/probe.h"

#include <bit>
#include <cstdint>
#include <cstdio>

namespace sluice::probe {
namespace {

// Every kSampleStep-th float; a prime, so that all exponents and mantissa patterns come up.
constexpr uint64_t kSampleStep = 4099;

// FNV-1a.
class Hash {
 public:
  void Add(uint32_t word) {
    for (int byte = 0; byte < 4; ++byte) {
      state_ = (state_ ^ (word >> (8 * byte) & 0xff)) * 0x100000001b3ull;
    }
  }
  uint64_t value() const { return state_; }

 private:
  uint64_t state_ = 0xcbf29ce484222325ull;
};

template <class Encode>
void PrintEncoder(const char* name, Encode encode) {
  Hash hash;
  for (uint64_t bits = 0; bits <= 0xffffffffull; bits += kSampleStep) {
    hash.Add(encode(std::bit_cast<float>(static_cast<uint32_t>(bits))));
  }
  std::printf("%-48s %016llx\n", name, static_cast<unsigned long long>(hash.value()));
}

template <class Decode>
void PrintDecoder(const char* name, uint32_t codes, Decode decode) {
  Hash hash;
  for (uint32_t code = 0; code < codes; ++code) hash.Add(std::bit_cast<uint32_t>(decode(code)));
  std::printf("%-48s %016llx\n", name, static_cast<unsigned long long>(hash.value()));
}

uint32_t Fp8(float value, __nv_saturation_t saturation, __nv_fp8_interpretation_t kind) {
  return __nv_cvt_float_to_fp8(value, saturation, kind);
}

float FromFp8(uint32_t code, __nv_fp8_interpretation_t kind) {
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(static_cast<__nv_fp8_storage_t>(code), kind)));
}

}  // namespace

void PrintFloats() {
  PrintEncoder("bf16 of float",
               [](float v) { return uint32_t{__bfloat16_as_ushort(__float2bfloat16_rn(v))}; });
  PrintEncoder("fp16 of float",
               [](float v) { return uint32_t{__half_as_ushort(__float2half_rn(v))}; });
  PrintEncoder("e4m3 of float, saturated",
               [](float v) { return Fp8(v, __NV_SATFINITE, __NV_E4M3); });
  PrintEncoder("e4m3 of float", [](float v) { return Fp8(v, __NV_NOSAT, __NV_E4M3); });
  PrintEncoder("e5m2 of float, saturated",
               [](float v) { return Fp8(v, __NV_SATFINITE, __NV_E5M2); });
  PrintEncoder("e5m2 of float", [](float v) { return Fp8(v, __NV_NOSAT, __NV_E5M2); });
  PrintDecoder("float of bf16", 1 << 16, [](uint32_t code) {
    return __bfloat162float(__ushort_as_bfloat16(static_cast<unsigned short>(code)));
  });
  PrintDecoder("float of fp16", 1 << 16, [](uint32_t code) {
    return __half2float(__ushort_as_half(static_cast<unsigned short>(code)));
  });
  PrintDecoder("float of e4m3", 256, [](uint32_t code) { return FromFp8(code, __NV_E4M3); });
  PrintDecoder("float of e5m2", 256, [](uint32_t code) { return FromFp8(code, __NV_E5M2); });
}

}  // namespace sluice::probe
