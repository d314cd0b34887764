#include "scheduler/cost/paper.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/cost/cost_model.h"

namespace sluice {
namespace {

constexpr double kMega = 1e6;
constexpr ByteRate kPcie4{32e9};
constexpr ByteRate kPcie5{64e9};
constexpr ByteRate kMeasuredLink{15e9};  // what the paper's runs sustain
constexpr ByteRate kC2cBothWays{900e9};
constexpr ByteRate kUnifiedMemory{8e12};
// C the paper divides by, implied by its κ_HW; for 405B it says 2,000 TFLOP/s.
constexpr FlopRate kA100{595e12};
constexpr FlopRate kH100{1882e12};
constexpr FlopRate kB200{4741e12};
constexpr FlopRate kGb200{5000e12};
constexpr FlopRate kFor405b{2000e12};

constexpr char kSparse[] =
    "C is about 95 % of the sparse 16-bit peak although the runs are dense: twice too fast, so κ "
    "is "
    "half of what dense peaks give";
constexpr char kSparseB200[] =
    "C is 95 % of GB200's sparse peak, above even the sparse peak of the B200 that has PCIe";
constexpr char kBothWays[] =
    "900 GB/s adds both directions of the link; one way is 450, and 210 to 400 are measured";
constexpr char kAggregate[] =
    "15 GB/s is end to end and probably the sum over eight devices; one PCIe 5 link sustains 55";
constexpr char kUnified[] = "a proposal; BW is all of HBM's, which weights and KV reads share";
constexpr char k405bModel[] =
    "the printed value is wrong: 2 x 405e9 / 516,096 B = 1.57; the paper's κ_crit uses 1.57";
constexpr char k405bRate[] = "C is 2,000 TFLOP/s here, not the 1,882 of the other figures";
constexpr char kMemory[] =
    "one B200 of 180 GB with the weights in 16 bits on it; nothing is left for activations";

double PerMega(ByteRate link, FlopRate compute) { return link.value() / compute.value() * kMega; }

// Names and constants of one hardware row.
struct Machine {
  const char* name;
  const HardwareProfile& profile;
  ByteRate paper_link;
  FlopRate paper_compute;
  ByteRate peak_link;
  ByteRate sustained_link;
  const char* note;
};

Deployment At(const ModelProfile& model, const HardwareProfile& hardware, RateBasis basis,
              ByteRate link) {
  Deployment d;
  d.model = model;
  d.hardware = hardware;
  d.basis = basis;
  d.link = link;
  return d;
}

struct Printed {
  double value;
  double last_digit;
};

class Table {
 public:
  explicit Table(const PaperProfiles& p) : p_(p) {}

  void Model(const char* name, const ModelProfile& model, double paper_parameters, Printed printed,
             const char* note = "") {
    const double exact = KappaModel(model, NumberFormat::kBf16) / kMega;
    PaperRow row = Row(absl::StrCat("κ_M, ", name), "MFLOP/B", printed,
                       2 * paper_parameters / KvBytesPerToken(model, NumberFormat::kBf16) / kMega);
    row.dense_peak = row.sustained = exact;
    row.note = note;
    rows_.push_back(std::move(row));
  }

  void Hardware(const Machine& m, Printed printed) {
    const ModelProfile& any = p_.llama_70b;
    PaperRow row = Row(absl::StrCat("κ_HW, ", m.name), "B/MFLOP", printed,
                       PerMega(m.paper_link, m.paper_compute));
    row.dense_peak = KappaHardware(At(any, m.profile, RateBasis::kPeakDense, m.peak_link)) * kMega;
    row.sustained =
        KappaHardware(At(any, m.profile, RateBasis::kSustained, m.sustained_link)) * kMega;
    row.note = m.note;
    rows_.push_back(std::move(row));
  }

  // `kappa_model` in MFLOP/B, rounded as the paper rounds it before it multiplies.
  void Critical(const char* name, const ModelProfile& model, double kappa_model, const Machine& m,
                Printed printed) {
    PaperRow row = Row(absl::StrCat("κ_crit, ", name, ", ", m.name), "", printed,
                       kappa_model * PerMega(m.paper_link, m.paper_compute));
    row.dense_peak = KappaCritical(At(model, m.profile, RateBasis::kPeakDense, m.peak_link));
    row.sustained = KappaCritical(At(model, m.profile, RateBasis::kSustained, m.sustained_link));
    row.note = m.note;
    rows_.push_back(std::move(row));
  }

  // 65,536 cached and 32 new tokens per request, Llama-3.1-70B on one B200.
  void Iteration() {
    Deployment d = At(p_.llama_70b, p_.b200, RateBasis::kPaper, kPcie5);
    d.memory_share = 1;
    constexpr Tokens kBudget(4000);
    const IterationTokens at =
        TokensPerIteration(d, {Tokens(65536), Tokens(32), Tokens(0)}, kBudget);
    const double whole_tokens = std::floor(at.tokens);
    const char* where = ", 70B on one B200, 65,536 cached + 32 new";
    AddPlain(absl::StrCat("Requests that fit", where), "requests", {1.8, 0.1}, at.requests);
    AddPlain(absl::StrCat("Tokens per iteration", where), "tokens", {57, 1}, whole_tokens);
    AddPlain(absl::StrCat("Share of a 4,000-token budget", where), "%", {1.4, 0.1},
             100 * whole_tokens / static_cast<double>(kBudget.value()));
  }

  std::vector<PaperRow> Take() { return std::move(rows_); }

 private:
  static PaperRow Row(std::string what, const char* unit, Printed printed, double ours) {
    PaperRow row;
    row.what = std::move(what);
    row.unit = unit;
    row.printed = printed.value;
    row.last_digit = printed.last_digit;
    row.paper_constants = ours;
    row.deviates = !Reproduced(row);
    return row;
  }

  void AddPlain(std::string what, const char* unit, Printed printed, double ours) {
    rows_.push_back(Row(std::move(what), unit, printed, ours));
    rows_.back().note = kMemory;
  }

  const PaperProfiles& p_;
  std::vector<PaperRow> rows_;
};

void AddModels(Table& table, const PaperProfiles& p) {
  table.Model("Llama-3.1-70B", p.llama_70b, 70e9, {0.42, 0.01}, "cut off, not rounded");
  table.Model("Llama-3.1-405B", p.llama_405b, 405e9, {1.42, 0.01}, k405bModel);
  table.Model("Qwen3-30B-A3B", p.qwen3_30b, 3.3e9, {0.07, 0.01});
  table.Model("Qwen3-235B-A22B", p.qwen3_235b, 22e9, {0.23, 0.01});
  table.Model("DeepSeek-V3", p.deepseek_v3, 37e9, {1.06, 0.01});
}

void AddHardware(Table& table, const PaperProfiles& p) {
  const ByteRate slow = p.pcie4.to_device.sustained;
  const auto fast = [](const HardwareProfile& h) { return h.to_device.sustained; };
  table.Hardware({"A100, PCIe 4", p.a100, kPcie4, kA100, kPcie4, slow, kSparse}, {53.8, 0.1});
  table.Hardware({"A100, PCIe 5", p.a100, kPcie5, kA100, kPcie5, fast(p.a100), kSparse},
                 {107.5, 0.1});
  table.Hardware({"H100, PCIe 4", p.h100, kPcie4, kH100, kPcie4, slow, kSparse}, {17, 1});
  table.Hardware({"H100, PCIe 5", p.h100, kPcie5, kH100, kPcie5, fast(p.h100), kSparse}, {34, 1});
  table.Hardware({"B200, PCIe 4", p.b200, kPcie4, kB200, kPcie4, slow, kSparseB200}, {6.7, 0.1});
  table.Hardware({"B200, PCIe 5", p.b200, kPcie5, kB200, kPcie5, fast(p.b200), kSparseB200},
                 {13.5, 0.1});
}

void AddCritical(Table& table, const PaperProfiles& p) {
  const Machine h100{"H100, PCIe 5", p.h100, kPcie5, kH100, kPcie5, p.h100.to_device.sustained,
                     kSparse};
  const Machine c2c{
      "Grace-Blackwell, C2C",      p.gb200,  kC2cBothWays, kGb200, p.gb200.to_device.peak,
      p.gb200.to_device.sustained, kBothWays};
  const Machine unified{"unified HBM", p.gb200,        kUnifiedMemory,
                        kGb200,        kUnifiedMemory, p.gb200.memory_bandwidth_sustained,
                        kUnified};
  const Machine measured{"H100, 15 GB/s", p.h100,        kMeasuredLink, kH100,
                         kMeasuredLink,   kMeasuredLink, kAggregate};
  table.Hardware(c2c, {180, 1});
  table.Hardware(unified, {1600, 100});
  table.Critical("Llama-3.1-70B", p.llama_70b, 0.42, h100, {14.3, 0.1});
  table.Critical("Qwen3-235B", p.qwen3_235b, 0.23, h100, {7.8, 0.1});
  table.Critical("DeepSeek-V3", p.deepseek_v3, 1.06, h100, {36, 1});
  table.Critical("Qwen3-235B", p.qwen3_235b, 0.23, c2c, {41.5, 0.1});
  table.Critical("DeepSeek-V3", p.deepseek_v3, 1.06, c2c, {191, 1});
  table.Critical("Qwen3-235B", p.qwen3_235b, 0.23, unified, {370, 10});
  table.Critical("DeepSeek-V3", p.deepseek_v3, 1.06, unified, {1700, 100});
  table.Critical("Llama-3.1-70B", p.llama_70b, 0.42, measured, {3.3, 0.1});
  table.Critical("Qwen3-235B", p.qwen3_235b, 0.23, measured, {1.8, 0.1});

  Machine fast = h100;
  fast.paper_compute = kFor405b;
  fast.note = k405bRate;
  Machine slow = measured;
  slow.paper_compute = kFor405b;
  slow.note = k405bRate;
  table.Critical("Llama-3.1-405B", p.llama_405b, 1.57, fast, {50, 1});
  table.Critical("Llama-3.1-405B", p.llama_405b, 1.57, slow, {12, 1});
}

}  // namespace

std::vector<PaperRow> PaperRows(const PaperProfiles& profiles) {
  Table table(profiles);
  AddModels(table, profiles);
  AddHardware(table, profiles);
  AddCritical(table, profiles);
  table.Iteration();
  return table.Take();
}

bool Reproduced(const PaperRow& row) {
  const double tolerance = std::max(0.03 * row.printed, 0.5 * row.last_digit);
  return std::abs(row.paper_constants - row.printed) <= tolerance;
}

}  // namespace sluice
