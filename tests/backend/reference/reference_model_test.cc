#include "backend/reference/reference_model.h"

#include <cmath>
#include <complex>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/random_checkpoint.h"

namespace sluice {
namespace {

using testing::RandomModel;
using testing::RandomModelSpec;
using testing::RandomTokens;
using Complex = std::complex<double>;
using Row = std::vector<double>;

// Element [row][column] of a weight, straight from the file.
double At(const TensorView& tensor, int64_t row, int64_t column) {
  float value = 0;
  ReadFloats(tensor, row * tensor.shape[1] + column, {&value, 1});
  return static_cast<double>(value);
}

double At(const TensorView* tensor, int64_t index) {  // 0 where the family has no such tensor
  if (tensor == nullptr) return 0;
  float value = 0;
  ReadFloats(*tensor, index, {&value, 1});
  return static_cast<double>(value);
}

// A second forward pass, written the other way round: it asks for one number at a time, rotates
// complex numbers, and normalizes after weighting instead of before.
class OneNumberAtATime {
 public:
  OneNumberAtATime(const RandomModel& model, std::vector<TokenId> tokens)
      : c_(model.config()), checkpoint_(model.checkpoint()), tokens_(std::move(tokens)) {}

  double Logit(int position, TokenId token) {
    const Row h = Hidden(c_.layers, position);
    double sum = 0;
    for (int i = 0; i < c_.hidden; ++i) {
      sum += h[Index(i)] * At(&checkpoint_.final_norm(), i) * At(checkpoint_.lm_head(), token, i);
    }
    return sum / Rms(h);
  }

 private:
  static size_t Index(int i) { return static_cast<size_t>(i); }

  double Rms(const Row& x) const {
    double squares = 0;
    for (const double v : x) squares += v * v / static_cast<double>(x.size());
    return std::sqrt(squares + c_.rms_norm_eps);
  }

  // One output of a linear layer behind an RMSNorm.
  double NormedLinear(const Row& x, const TensorView* norm, const TensorView* weight,
                      const TensorView* bias, int out) const {
    double sum = 0;
    for (int i = 0; i < c_.hidden; ++i) sum += At(*weight, out, i) * At(norm, i) * x[Index(i)];
    return sum / Rms(x) + At(bias, out);
  }

  // The residual stream at `position` before layer `layer`.
  const Row& Hidden(int layer, int position) {
    Row& memo = hidden_[{layer, position}];
    if (!memo.empty()) return memo;
    Row x(Index(c_.hidden));
    if (layer == 0) {
      for (int i = 0; i < c_.hidden; ++i) {
        x[Index(i)] = At(checkpoint_.embedding(), tokens_[Index(position)], i);
      }
      return memo = x;
    }
    const LayerTensors& t = checkpoint_.layers()[Index(layer - 1)];
    x = Hidden(layer - 1, position);
    Row attended(Index(c_.heads * c_.head_dim));
    for (int head = 0; head < c_.heads; ++head) Attend(layer - 1, position, head, attended);
    for (int i = 0; i < c_.hidden; ++i) {
      for (int j = 0; j < c_.heads * c_.head_dim; ++j) {
        x[Index(i)] += At(*t.o, i, j) * attended[Index(j)];
      }
      x[Index(i)] += At(t.o_bias, i);
    }
    const Row middle = x;
    for (int f = 0; f < c_.intermediate; ++f) {
      const double gate = NormedLinear(middle, t.post_attention_norm, t.gate, t.gate_bias, f);
      const double up = NormedLinear(middle, t.post_attention_norm, t.up, t.up_bias, f);
      const double inner = gate * up / (1 + std::exp(-gate));
      for (int i = 0; i < c_.hidden; ++i) x[Index(i)] += At(*t.down, i, f) * inner;
    }
    for (int i = 0; i < c_.hidden; ++i) x[Index(i)] += At(t.down_bias, i);
    return memo = x;
  }

  // Head `head` of q or k as complex pairs, normed and turned by its position.
  std::vector<Complex> Turned(int layer, int position, int head, const TensorView* weight,
                              const TensorView* bias, const TensorView* norm) {
    const LayerTensors& t = checkpoint_.layers()[Index(layer)];
    const Row x = Hidden(layer, position);
    const int half = c_.head_dim / 2;
    Row values;
    for (int d = 0; d < c_.head_dim; ++d) {
      values.push_back(NormedLinear(x, t.input_norm, weight, bias, head * c_.head_dim + d));
    }
    const double scale = norm == nullptr ? 1 : 1 / Rms(values);
    const std::vector<double> frequencies =
        RopeInverseFrequencies(c_.rope, c_.head_dim, c_.max_position_embeddings);
    std::vector<Complex> out;
    for (int i = 0; i < half; ++i) {
      Complex pair(values[Index(i)], values[Index(i + half)]);
      if (norm != nullptr) {
        pair = {pair.real() * scale * At(norm, i), pair.imag() * scale * At(norm, i + half)};
      }
      out.push_back(pair * std::polar(c_.rope.attention_factor, position * frequencies[Index(i)]));
    }
    return out;
  }

  void Attend(int layer, int position, int head, Row& out) {
    const LayerTensors& t = checkpoint_.layers()[Index(layer)];
    const int kv_head = head * c_.kv_heads / c_.heads;
    const auto q = Turned(layer, position, head, t.q, t.q_bias, t.q_norm);
    double total = 0;
    Row sum(Index(c_.head_dim), 0.0);
    for (int p = 0; p <= position; ++p) {
      const auto k = Turned(layer, p, kv_head, t.k, t.k_bias, t.k_norm);
      double score = 0;
      for (size_t i = 0; i < q.size(); ++i) score += (q[i] * std::conj(k[i])).real();
      const double weight = std::exp(score / std::sqrt(c_.head_dim));
      total += weight;
      for (int d = 0; d < c_.head_dim; ++d) {
        sum[Index(d)] += weight * NormedLinear(Hidden(layer, p), t.input_norm, t.v, t.v_bias,
                                               kv_head * c_.head_dim + d);
      }
    }
    for (int d = 0; d < c_.head_dim; ++d)
      out[Index(head * c_.head_dim + d)] = sum[Index(d)] / total;
  }

  const ModelConfig& c_;
  const Checkpoint& checkpoint_;
  const std::vector<TokenId> tokens_;
  std::map<std::pair<int, int>, Row> hidden_;  // memo
};

void ExpectAgreesWithTheOtherForm(const RandomModelSpec& spec) {
  const RandomModel model(spec);
  const ReferenceModel reference(model.config(), model.checkpoint());
  const std::vector<TokenId> tokens = RandomTokens(5, spec.vocab, spec.seed);
  const auto logits = reference.Logits(tokens);
  ASSERT_EQ(logits.size(), tokens.size());
  OneNumberAtATime other(model, tokens);
  for (int p = 0; p < 5; ++p) {
    ASSERT_EQ(logits[static_cast<size_t>(p)].size(), static_cast<size_t>(spec.vocab));
    for (TokenId token = 0; token < spec.vocab; ++token) {
      ASSERT_NEAR(logits[static_cast<size_t>(p)][static_cast<size_t>(token)], other.Logit(p, token),
                  1e-9)
          << "position " << p << " token " << token;
    }
  }
}

RandomModelSpec Tiny() {
  return {.hidden = 12, .intermediate = 10, .heads = 4, .kv_heads = 2, .head_dim = 6, .vocab = 7};
}

TEST(ReferenceModelTest, AgreesWithAnotherFormOfTheFormulasForEveryFamily) {
  for (const char* family : {"Llama", "Mistral", "Qwen2", "Qwen3"}) {
    for (const bool tied : {false, true}) {
      RandomModelSpec spec = Tiny();
      spec.architecture = std::string(family) + "ForCausalLM";
      spec.tied = tied;
      SCOPED_TRACE(spec.architecture);
      ExpectAgreesWithTheOtherForm(spec);
    }
  }
}

TEST(ReferenceModelTest, AgreesWithAnotherFormOfTheFormulasWithBiases) {
  RandomModelSpec spec = Tiny();
  spec.attention_bias = true;
  spec.mlp_bias = true;
  ExpectAgreesWithTheOtherForm(spec);
  spec.mlp_bias = false;
  spec.architecture = "Qwen3ForCausalLM";
  ExpectAgreesWithTheOtherForm(spec);
}

TEST(ReferenceModelTest, AgreesWithAnotherFormOfTheFormulasForMhaGqaAndMqa) {
  for (const int kv_heads : {1, 2, 4}) {
    SCOPED_TRACE(kv_heads);
    RandomModelSpec spec = Tiny();
    spec.kv_heads = kv_heads;
    ExpectAgreesWithTheOtherForm(spec);
  }
}

TEST(ReferenceModelTest, AgreesWithAnotherFormOfTheFormulasForEveryRope) {
  for (const RopeKind kind : {RopeKind::kLinear, RopeKind::kLlama3, RopeKind::kYarn}) {
    SCOPED_TRACE(static_cast<int>(kind));
    RandomModelSpec spec = Tiny();
    spec.rope.kind = kind;
    spec.rope.factor = 4;
    spec.rope.original_max_position_embeddings = 64;
    spec.rope.attention_factor = kind == RopeKind::kYarn ? 1.3 : 1.0;
    ExpectAgreesWithTheOtherForm(spec);
  }
}

// hidden = head_dim = 2, one head, one neuron, one layer, two tokens: every step by its own line.
TEST(ReferenceModelTest, MatchesAWorkedExample) {
  const RandomModel model({.layers = 1,
                           .hidden = 2,
                           .intermediate = 1,
                           .heads = 1,
                           .kv_heads = 1,
                           .vocab = 3,
                           .rms_norm_eps = 1e-6});
  const Checkpoint& c = model.checkpoint();
  const LayerTensors& t = c.layers()[0];
  const auto length = [](Complex x) { return std::sqrt(std::norm(x) / 2 + 1e-6); };
  const auto scaled = [](Complex x, const TensorView* w) {
    return Complex(x.real() * At(w, 0), x.imag() * At(w, 1));
  };
  const auto times = [](const TensorView* w, Complex x) {
    return Complex(At(*w, 0, 0) * x.real() + At(*w, 0, 1) * x.imag(),
                   At(*w, 1, 0) * x.real() + At(*w, 1, 1) * x.imag());
  };
  const Complex e2(At(c.embedding(), 2, 0), At(c.embedding(), 2, 1));
  const Complex e0(At(c.embedding(), 0, 0), At(c.embedding(), 0, 1));
  const Complex n2 = scaled(e2 / length(e2), t.input_norm);
  const Complex n0 = scaled(e0 / length(e0), t.input_norm);
  // Token 2 stands at position 0, token 0 at position 1; the only frequency is 1.
  const Complex turn(std::cos(1.0), std::sin(1.0));
  const Complex q = times(t.q, n0) * turn;
  const Complex k_old = times(t.k, n2);
  const Complex k_new = times(t.k, n0) * turn;
  const double score_old = (q.real() * k_old.real() + q.imag() * k_old.imag()) / std::sqrt(2);
  const double score_new = (q.real() * k_new.real() + q.imag() * k_new.imag()) / std::sqrt(2);
  const double weight_old = 1 / (1 + std::exp(score_new - score_old));
  const Complex mixed = weight_old * times(t.v, n2) + (1 - weight_old) * times(t.v, n0);
  const Complex middle = e0 + times(t.o, mixed);
  const Complex m = scaled(middle / length(middle), t.post_attention_norm);
  const double gate = At(*t.gate, 0, 0) * m.real() + At(*t.gate, 0, 1) * m.imag();
  const double up = At(*t.up, 0, 0) * m.real() + At(*t.up, 0, 1) * m.imag();
  const double inner = gate / (1 + std::exp(-gate)) * up;
  const Complex last = middle + Complex(At(*t.down, 0, 0), At(*t.down, 1, 0)) * inner;
  const Complex final_state = scaled(last / length(last), &c.final_norm());

  const ReferenceModel reference(model.config(), c);
  const std::vector<TokenId> tokens = {2, 0};
  const auto logits = reference.Logits(tokens);
  for (TokenId token = 0; token < 3; ++token) {
    const double want = At(c.lm_head(), token, 0) * final_state.real() +
                        At(c.lm_head(), token, 1) * final_state.imag();
    EXPECT_NEAR(logits[1][static_cast<size_t>(token)], want, 1e-12);
  }
}

TEST(ReferenceModelTest, APrefixHasTheSameLogitsWhateverFollows) {
  const RandomModel model({});
  const ReferenceModel reference(model.config(), model.checkpoint());
  const std::vector<TokenId> tokens = RandomTokens(20, model.config().vocab, 3);
  const auto all = reference.Logits(tokens);
  const auto some = reference.Logits(std::span(tokens).first(7));
  for (size_t p = 0; p < some.size(); ++p) EXPECT_EQ(all[p], some[p]);
}

TEST(ReferenceModelTest, GreedyPicksTheLargestLogitAndFeedsItBack) {
  const RandomModel model({.eos_ids = {0, 1, 2, 3}});
  const ReferenceModel reference(model.config(), model.checkpoint());
  std::vector<TokenId> tokens = RandomTokens(6, model.config().vocab, 4);
  const std::vector<TokenId> answer = reference.Greedy(tokens, 12);
  ASSERT_EQ(answer.size(), 12u);
  for (const TokenId next : answer) {
    const std::vector<double> logits = reference.Logits(tokens).back();
    for (size_t i = 0; i < logits.size(); ++i) {
      EXPECT_LE(logits[i], logits[static_cast<size_t>(next)]);
    }
    tokens.push_back(next);
  }
  EXPECT_TRUE(reference.Greedy(tokens, 0).empty());
}

TEST(ReferenceModelTest, ManyRandomModelsHaveLogitsOfUsefulSpread) {
  for (const bool tied : {false, true}) {
    for (uint64_t seed = 0; seed < 5; ++seed) {
      SCOPED_TRACE(seed);
      const RandomModel model({.hidden = 64, .intermediate = 128, .tied = tied, .seed = seed});
      const ReferenceModel reference(model.config(), model.checkpoint());
      const auto logits = reference.Logits(RandomTokens(16, model.config().vocab, seed));
      double sum = 0, squares = 0, n = 0;
      for (const auto& row : logits) {
        for (const double v : row) sum += v, squares += v * v, n += 1;
      }
      const double deviation = std::sqrt(squares / n - sum * sum / n / n);
      EXPECT_GT(deviation, 1.5);
      EXPECT_LT(deviation, 6);
    }
  }
}

TEST(ReferenceModelDeathTest, TokensOutsideTheVocabularyAreOurBug) {
  const RandomModel model({});
  const ReferenceModel reference(model.config(), model.checkpoint());
  EXPECT_DEATH(reference.Logits(std::vector<TokenId>{96}), "CHECK failed");
  EXPECT_DEATH(reference.Logits(std::vector<TokenId>{-1}), "CHECK failed");
  EXPECT_DEATH(reference.Logits({}), "CHECK failed");
}

}  // namespace
}  // namespace sluice
