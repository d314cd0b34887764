#include "backend/reference/reference_model.h"

#include <algorithm>
#include <cmath>

#include "backend/model/rope.h"
#include "scheduler/base/check.h"

namespace sluice {
namespace {

using Vector = std::vector<double>;
using Rows = std::vector<Vector>;  // one vector per position

Vector ReadVector(const TensorView* tensor) {
  if (tensor == nullptr) return {};
  std::vector<float> floats(static_cast<size_t>(tensor->elements()));
  ReadFloats(*tensor, 0, floats);
  return Vector(floats.begin(), floats.end());
}

// y = W x + b, with W kept as [in][out] so that the inner loop runs over independent sums.
struct Linear {
  size_t in = 0;
  size_t out = 0;
  Vector weights;
  Vector bias;  // empty: none

  Linear() = default;
  Linear(const TensorView* w, const TensorView* b)
      : in(static_cast<size_t>(w->shape[1])),
        out(static_cast<size_t>(w->shape[0])),
        weights(in * out),
        bias(ReadVector(b)) {
    const Vector file = ReadVector(w);  // [out][in]
    for (size_t o = 0; o < out; ++o) {
      for (size_t i = 0; i < in; ++i) weights[i * out + o] = file[o * in + i];
    }
  }

  Vector operator()(const Vector& x) const {
    SLUICE_CHECK(x.size() == in);
    Vector y = bias.empty() ? Vector(out, 0.0) : bias;
    for (size_t i = 0; i < in; ++i) {
      const double* row = &weights[i * out];
      for (size_t o = 0; o < out; ++o) y[o] += x[i] * row[o];
    }
    return y;
  }
};

// x / rms(x) * weight over `x`, in place (Zhang and Sennrich 2019).
void RmsNorm(std::span<double> x, const Vector& weight, double eps) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  const double scale = 1.0 / std::sqrt(sum / static_cast<double>(x.size()) + eps);
  for (size_t i = 0; i < x.size(); ++i) x[i] *= scale * weight[i];
}

Vector Normed(Vector x, const Vector& weight, double eps) {
  RmsNorm(x, weight, eps);
  return x;
}

void AddTo(Vector& x, const Vector& y) {
  for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
}

double Silu(double x) { return x / (1.0 + std::exp(-x)); }

void Softmax(Vector& scores) {
  const double top = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& s : scores) sum += s = std::exp(s - top);
  for (double& s : scores) s /= sum;
}

struct Layer {
  Vector input_norm, post_attention_norm, q_norm, k_norm;
  Linear q, k, v, o, gate, up, down;

  explicit Layer(const LayerTensors& t)
      : input_norm(ReadVector(t.input_norm)),
        post_attention_norm(ReadVector(t.post_attention_norm)),
        q_norm(ReadVector(t.q_norm)),
        k_norm(ReadVector(t.k_norm)),
        q(t.q, t.q_bias),
        k(t.k, t.k_bias),
        v(t.v, t.v_bias),
        o(t.o, t.o_bias),
        gate(t.gate, t.gate_bias),
        up(t.up, t.up_bias),
        down(t.down, t.down_bias) {}
};

// Normalizes (if the family does) and rotates every head of `x` for `position`.
void NormAndRotate(const ModelConfig& config, const Vector& frequencies, const Vector& norm,
                   int64_t position, Vector& x) {
  const auto dim = static_cast<size_t>(config.head_dim);
  const size_t half = dim / 2;
  Vector cos(half), sin(half);
  RopeCosSin(frequencies, config.rope.attention_factor, position, cos, sin);
  for (size_t head = 0; head < x.size(); head += dim) {
    const std::span<double> h(&x[head], dim);
    if (!norm.empty()) RmsNorm(h, norm, config.rms_norm_eps);
    for (size_t i = 0; i < half; ++i) {
      const double a = h[i];
      const double b = h[i + half];
      h[i] = a * cos[i] - b * sin[i];
      h[i + half] = b * cos[i] + a * sin[i];
    }
  }
}

// What position `last` gathers from the values of positions 0..last, all heads side by side.
Vector Attend(const ModelConfig& config, const Vector& q, const Rows& k, const Rows& v,
              size_t last) {
  const auto dim = static_cast<size_t>(config.head_dim);
  const auto heads = static_cast<size_t>(config.heads);
  const size_t heads_per_kv = heads / static_cast<size_t>(config.kv_heads);
  Vector out(heads * dim, 0.0);
  for (size_t h = 0; h < heads; ++h) {
    const size_t kv = h / heads_per_kv * dim;
    Vector weights(last + 1, 0.0);
    for (size_t p = 0; p <= last; ++p) {
      for (size_t d = 0; d < dim; ++d) weights[p] += q[h * dim + d] * k[p][kv + d];
      weights[p] /= std::sqrt(static_cast<double>(dim));
    }
    Softmax(weights);
    for (size_t p = 0; p <= last; ++p) {
      for (size_t d = 0; d < dim; ++d) out[h * dim + d] += weights[p] * v[p][kv + d];
    }
  }
  return out;
}

Vector Mlp(const Layer& layer, const Vector& x) {
  Vector gate = layer.gate(x);
  const Vector up = layer.up(x);
  for (size_t i = 0; i < gate.size(); ++i) gate[i] = Silu(gate[i]) * up[i];
  return layer.down(gate);
}

void RunLayer(const ModelConfig& config, const Vector& frequencies, const Layer& layer, Rows& x) {
  Rows q, k, v;
  for (size_t p = 0; p < x.size(); ++p) {
    const Vector normed = Normed(x[p], layer.input_norm, config.rms_norm_eps);
    q.push_back(layer.q(normed));
    k.push_back(layer.k(normed));
    v.push_back(layer.v(normed));
    const auto position = static_cast<int64_t>(p);
    NormAndRotate(config, frequencies, layer.q_norm, position, q.back());
    NormAndRotate(config, frequencies, layer.k_norm, position, k.back());
  }
  for (size_t p = 0; p < x.size(); ++p) {
    AddTo(x[p], layer.o(Attend(config, q[p], k, v, p)));
    AddTo(x[p], Mlp(layer, Normed(x[p], layer.post_attention_norm, config.rms_norm_eps)));
  }
}

}  // namespace

struct ReferenceModel::Weights {
  Vector embedding;  // [vocab][hidden]
  Vector final_norm;
  Linear lm_head;
  std::vector<Layer> layers;
  Vector frequencies;

  // The final, normalized hidden state of every position.
  Rows Forward(const ModelConfig& config, std::span<const TokenId> tokens) const {
    SLUICE_CHECK(!tokens.empty());
    const auto hidden = static_cast<int64_t>(config.hidden);
    Rows x;
    for (const TokenId token : tokens) {
      SLUICE_CHECK(token >= 0 && token < config.vocab);
      const auto begin = embedding.begin() + token * hidden;
      x.emplace_back(begin, begin + hidden);
    }
    for (const Layer& layer : layers) RunLayer(config, frequencies, layer, x);
    for (Vector& row : x) RmsNorm(row, final_norm, config.rms_norm_eps);
    return x;
  }
};

ReferenceModel::ReferenceModel(const ModelConfig& config, const Checkpoint& checkpoint)
    : config_(config), weights_(std::make_unique<Weights>()) {
  weights_->embedding = ReadVector(&checkpoint.embedding());
  weights_->final_norm = ReadVector(&checkpoint.final_norm());
  weights_->lm_head = Linear(&checkpoint.lm_head(), nullptr);
  for (const LayerTensors& layer : checkpoint.layers()) weights_->layers.emplace_back(layer);
  weights_->frequencies =
      RopeInverseFrequencies(config.rope, config.head_dim, config.max_position_embeddings);
}

ReferenceModel::~ReferenceModel() = default;

std::vector<std::vector<double>> ReferenceModel::Logits(std::span<const TokenId> tokens) const {
  Rows rows = weights_->Forward(config_, tokens);
  for (Vector& row : rows) row = weights_->lm_head(row);
  return rows;
}

std::vector<TokenId> ReferenceModel::Greedy(std::span<const TokenId> prompt, int count) const {
  std::vector<TokenId> tokens(prompt.begin(), prompt.end());
  for (int i = 0; i < count; ++i) {
    const Vector logits = weights_->lm_head(weights_->Forward(config_, tokens).back());
    // max_element returns the first of equals.
    tokens.push_back(
        static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
  }
  return std::vector<TokenId>(tokens.begin() + static_cast<int64_t>(prompt.size()), tokens.end());
}

}  // namespace sluice
