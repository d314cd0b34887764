// The paper's published figures, and where they are off.
#include "service/profiles/paper_table.h"

#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "scheduler/cost/cost_model.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;

class PaperTableTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto catalogue = Catalogue::Load();
    ASSERT_THAT(catalogue, IsOk());
    catalogue_ = *std::move(catalogue);
    auto rows = PaperTable(catalogue_);
    ASSERT_THAT(rows, IsOk());
    rows_ = *std::move(rows);
  }

  const PaperRow& Row(const std::string& what) {
    for (const PaperRow& row : rows_) {
      if (row.what == what) return row;
    }
    ADD_FAILURE() << "no row " << what;
    return rows_.front();
  }

  Deployment At(const char* model, const char* hardware, RateBasis basis) {
    Deployment d;
    d.model = *catalogue_.FindModel(model);
    d.hardware = *catalogue_.FindHardware(hardware);
    d.basis = basis;
    return d;
  }

  Catalogue catalogue_;
  std::vector<PaperRow> rows_;
};

struct Published {
  const char* what;
  double printed;
};

// All from the paper; paper.h says where each comes from.
constexpr Published kPublished[] = {
    {"κ_crit, Llama-3.1-70B, H100, PCIe 5", 14.3},
    {"κ_crit, Qwen3-235B, H100, PCIe 5", 7.8},
    {"κ_crit, DeepSeek-V3, H100, PCIe 5", 36},
    {"κ_crit, Qwen3-235B, Grace-Blackwell, C2C", 41.5},
    {"κ_crit, DeepSeek-V3, Grace-Blackwell, C2C", 191},
    {"κ_crit, Qwen3-235B, unified HBM", 370},
    {"κ_crit, DeepSeek-V3, unified HBM", 1700},
    {"κ_crit, Llama-3.1-70B, H100, 15 GB/s", 3.3},
    {"κ_crit, Qwen3-235B, H100, 15 GB/s", 1.8},
    {"κ_crit, Llama-3.1-405B, H100, PCIe 5", 50},
    {"κ_crit, Llama-3.1-405B, H100, 15 GB/s", 12},
    {"κ_HW, A100, PCIe 4", 53.8},
    {"κ_HW, A100, PCIe 5", 107.5},
    {"κ_HW, H100, PCIe 4", 17},
    {"κ_HW, H100, PCIe 5", 34},
    {"κ_HW, B200, PCIe 4", 6.7},
    {"κ_HW, B200, PCIe 5", 13.5},
    {"κ_HW, Grace-Blackwell, C2C", 180},
    {"κ_HW, unified HBM", 1600},
    {"κ_M, Llama-3.1-70B", 0.42},
    {"κ_M, Qwen3-235B-A22B", 0.23},
    {"κ_M, DeepSeek-V3", 1.06},
    {"Requests that fit, 70B on one B200, 65,536 cached + 32 new", 1.8},
    {"Tokens per iteration, 70B on one B200, 65,536 cached + 32 new", 57},
    {"Share of a 4,000-token budget, 70B on one B200, 65,536 cached + 32 new", 1.4},
};

TEST_F(PaperTableTest, EveryPublishedFigureIsReproducedWithinThreePercent) {
  for (const Published& published : kPublished) {
    const PaperRow& row = Row(published.what);
    EXPECT_EQ(row.printed, published.printed) << row.what;
    EXPECT_NEAR(row.paper_constants / row.printed, 1, 0.03) << row.what;
    EXPECT_FALSE(row.deviates) << row.what;
  }
}

TEST_F(PaperTableTest, TheModelConstantOf405bIsTheOnlyOneThatDoesNotFollow) {
  for (const PaperRow& row : rows_) {
    EXPECT_EQ(row.deviates, row.what == "κ_M, Llama-3.1-405B") << row.what;
  }
  const PaperRow& row = Row("κ_M, Llama-3.1-405B");
  EXPECT_EQ(row.printed, 1.42);
  EXPECT_NEAR(row.paper_constants, 1.57, 0.001);
  EXPECT_THAT(row.note, HasSubstr("the printed value is wrong"));
}

// The paper divides by a sparse peak although its runs are dense.
TEST_F(PaperTableTest, DensePeaksDoubleKappaCritical) {
  for (const char* what : {"κ_HW, A100, PCIe 5", "κ_HW, H100, PCIe 5", "κ_HW, B200, PCIe 5",
                           "κ_crit, Llama-3.1-70B, H100, PCIe 5"}) {
    const PaperRow& row = Row(what);
    EXPECT_NEAR(*row.dense_peak / row.paper_constants, 2, 0.15) << what;
    EXPECT_THAT(row.note, HasSubstr("sparse")) << what;
  }
}

TEST_F(PaperTableTest, OneWayOfC2cUndoesTheGainOfTheSparsePeak) {
  const PaperRow& row = Row("κ_crit, DeepSeek-V3, Grace-Blackwell, C2C");
  EXPECT_NEAR(*row.dense_peak / row.paper_constants, 1, 0.03);  // half the link, half the compute
  EXPECT_LT(*row.sustained, *row.dense_peak);
  EXPECT_THAT(row.note, HasSubstr("both directions"));
}

TEST_F(PaperTableTest, ThePaperBasisOfADeploymentGivesTheSameFigures) {
  const auto kappa = [&](const char* model, const char* hardware) {
    return KappaCritical(At(model, hardware, RateBasis::kPaper));
  };
  EXPECT_NEAR(kappa("llama-3.1-70b", "h100-pcie5") / 14.3, 1, 0.03);
  EXPECT_NEAR(kappa("qwen3-235b-a22b", "h100-pcie5") / 7.8, 1, 0.03);
  EXPECT_NEAR(kappa("deepseek-v3", "h100-pcie5") / 36, 1, 0.03);
  EXPECT_NEAR(kappa("qwen3-235b-a22b", "gb200") / 41.5, 1, 0.03);
  EXPECT_NEAR(kappa("deepseek-v3", "gb200") / 191, 1, 0.03);
  EXPECT_NEAR(KappaHardware(At("llama-3.1-70b", "b200", RateBasis::kPaper)) * 1e6, 13.5, 0.1);
  EXPECT_NEAR(KappaHardware(At("llama-3.1-70b", "h100-pcie4", RateBasis::kPaper)) * 1e6, 17, 0.1);
}

TEST_F(PaperTableTest, TheUnreportedPaperRateIsAShareOfTheSparsePeak) {
  HardwareProfile h100 = *catalogue_.FindHardware("h100-pcie5");
  const FlopRate stated = PaperFlopRate(h100);
  h100.paper_compute = FlopRate(0);
  EXPECT_NEAR(PaperFlopRate(h100) / stated, 1, 0.001);
  h100.compute[static_cast<size_t>(NumberFormat::kBf16)].peak_sparse = FlopRate(0);
  EXPECT_EQ(PaperFlopRate(h100), FlopRate(0));
}

// The paper on 8 H100 at 15 GB/s: 65,536 cached and 64 new tokens spend 99 % of the time in
// transfers, 86 times the compute. Its formula says 300 times, because it has no floor.
TEST_F(PaperTableTest, WithTheFloorTheMeasuredOverheadComesOut) {
  Deployment d = At("llama-3.1-70b", "h100-pcie5", RateBasis::kSustained);
  d.tensor_parallel = 8;
  d.link = ByteRate(15e9);
  const RequestShape r{Tokens(65536), Tokens(64), Tokens(0)};
  EXPECT_NEAR(OverheadRatio(d, r) / 86, 1, 0.15);
  EXPECT_NEAR(TransferShare(d, r), 0.99, 0.005);
  const Energy narrative = RequestEnergy(d, {Tokens(57000), Tokens(12), Tokens(0)}, true);
  EXPECT_NEAR(narrative.mean.value() / 8, 152, 10);  // watts per device, NarrativeQA
  Deployment paper = At("llama-3.1-70b", "h100-pcie5", RateBasis::kPaper);
  paper.link = d.link;
  EXPECT_GT(OverheadRatio(paper, r), 290);
}

// At 65,536 tokens attention adds 61 % for Llama-3.1-70B and 229 % for Qwen3-235B.
TEST_F(PaperTableTest, TheAttentionThePaperLeavesOutIsLarge) {
  const auto added = [&](const char* name, double parameters) {
    const ModelProfile model = *catalogue_.FindModel(name);
    const double all = PrefillFlopPerToken(model, Tokens(0), Tokens(65536)).value();
    return (all - 2 * model.prefill_parameters) / (2 * parameters);
  };
  EXPECT_NEAR(added("llama-3.1-70b", 70e9), 0.61, 0.01);
  EXPECT_NEAR(added("qwen3-235b-a22b", 22e9), 2.29, 0.01);
}

}  // namespace
}  // namespace sluice
