// Profiles for the tests of the cost model: one with round numbers, and random ones.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <utility>

#include "scheduler/cost/cost_model.h"

namespace sluice::testing {

// 80 layers, 64:8 heads of 128: the shape of Llama-3.1-70B, with exactly 70 B parameters.
inline ModelProfile Llama70b() {
  ModelProfile m;
  m.name = "llama-like-70b";
  m.layers = 80;
  m.hidden = 8192;
  m.heads = 64;
  m.kv_heads = 8;
  m.head_dim = m.value_head_dim = 128;
  m.max_context = 131072;
  m.total_parameters = m.active_parameters = 70e9;
  return m;
}

// Multi-head latent attention: the shape of DeepSeek-V3.
inline ModelProfile LatentModel() {
  ModelProfile m = Llama70b();
  m.name = "latent";
  m.layers = 61;
  m.hidden = 7168;
  m.heads = m.kv_heads = 128;
  m.head_dim = 192;
  m.value_head_dim = 128;
  m.latent_dim = 576;
  m.latent_value_dim = 512;
  m.total_parameters = 671e9;
  m.active_parameters = 37e9;
  return m;
}

// Half of 24 layers slide over 128 tokens: the shape of gpt-oss-20b.
inline ModelProfile WindowedModel() {
  ModelProfile m = Llama70b();
  m.name = "windowed";
  m.layers = 24;
  m.hidden = 2880;
  m.heads = 64;
  m.head_dim = m.value_head_dim = 64;
  m.windowed_layers = 12;
  m.window = 128;
  m.total_parameters = 21e9;
  m.active_parameters = 3.6e9;
  return m;
}

// Round numbers: 1,000 TFLOP/s peak, 400 sustained, 50 GB/s link, 2 TB/s memory of 100 GB.
inline HardwareProfile RoundHardware() {
  HardwareProfile h;
  h.name = "round";
  h.compute[static_cast<size_t>(NumberFormat::kBf16)] = {FlopRate(1000e12), FlopRate(2000e12),
                                                         FlopRate(400e12)};
  h.compute[static_cast<size_t>(NumberFormat::kFp8)] = {FlopRate(2000e12), FlopRate(4000e12),
                                                        FlopRate(800e12)};
  h.attention_sustained = FlopRate(400e12);
  h.memory = Bytes(100'000'000'000);
  h.memory_bandwidth_peak = ByteRate(2.5e12);
  h.memory_bandwidth_sustained = ByteRate(2e12);
  h.to_device = {ByteRate(64e9), ByteRate(50e9)};
  h.to_host = {ByteRate(64e9), ByteRate(40e9)};
  h.duplex_sustained = ByteRate(72e9);
  h.copy_overhead = Seconds(1e-6);
  h.copy_latency = Seconds(10e-6);
  h.step_floor = Seconds(0.5e-3);
  h.layer_floor = Seconds(50e-6);
  h.step_launch = Seconds(1e-3);
  h.collective = Seconds(25e-6);
  h.host_memory = Bytes(256'000'000'000);
  h.host_memory_bandwidth = ByteRate(200e9);
  h.host_attention = FlopRate(4e12);
  h.disk = {ByteRate(5e9), ByteRate(2.5e9), Seconds(1e-4)};
  h.remote = {ByteRate(2e9), ByteRate(2e9), Seconds(1e-3)};
  h.tdp = Watts(700);
  h.idle = Watts(100);
  h.transfer = Watts(30);
  return h;
}

inline Deployment On(ModelProfile model, RateBasis basis = RateBasis::kSustained,
                     int64_t devices = 2) {
  Deployment d;
  d.model = std::move(model);
  d.hardware = RoundHardware();
  d.basis = basis;
  d.tensor_parallel = devices;
  return d;
}

// A deployment whose numbers are all within two decades of real ones; weights fit.
inline Deployment RandomDeployment(std::mt19937_64& random) {
  const auto scale = [&](double low, double high) {
    return std::exp(std::uniform_real_distribution<double>(std::log(low), std::log(high))(random));
  };
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  Deployment d = On(Llama70b());
  ModelProfile& m = d.model;
  m.layers = pick(1, 120);
  m.kv_heads = pick(1, 16);
  m.heads = m.kv_heads * pick(1, 16);
  m.head_dim = m.value_head_dim = 16 * pick(2, 16);
  if (pick(0, 3) == 0) {
    m.latent_dim = 576;
    m.latent_value_dim = 512;
  }
  if (pick(0, 2) == 0) {
    m.windowed_layers = pick(1, m.layers);
    m.window = pick(16, 8192);
  }
  m.total_parameters = scale(1e8, 5e11);
  m.active_parameters = m.total_parameters / scale(1, 20);
  HardwareProfile& h = d.hardware;
  h.compute[static_cast<size_t>(NumberFormat::kBf16)].sustained = FlopRate(scale(1e13, 1e15));
  h.attention_sustained = FlopRate(scale(1e12, 1e15));
  h.memory_bandwidth_sustained = ByteRate(scale(1e11, 2e12));
  h.step_floor = Seconds(scale(1e-5, 2e-2));
  h.copy_latency = Seconds(scale(1e-7, 1e-3));
  h.host_memory_bandwidth = ByteRate(scale(1e9, 1e12));
  h.memory = Bytes(static_cast<int64_t>(4e12));
  d.tensor_parallel = pick(1, 8);
  d.link = ByteRate(scale(1e9, 1e12));
  return d;
}

inline RequestShape RandomShape(std::mt19937_64& random) {
  const auto tokens = [&](double high) {
    return Tokens(static_cast<int64_t>(
        std::exp(std::uniform_real_distribution<double>(0, std::log(high))(random))));
  };
  return {tokens(120e3), tokens(20e3), tokens(500)};
}

}  // namespace sluice::testing
