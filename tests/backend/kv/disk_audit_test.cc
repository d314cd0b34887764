#include "backend/kv/disk_audit.h"

#include <filesystem>
#include <fstream>

#include "tests/backend/kv/store_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class DiskAuditTest : public ::testing::Test {
 protected:
  DiskAuditTest() { EXPECT_THAT(WriteAll(*OpenStore(SmallStore(dir_)), MakePrompt(1, 9)), IsOk()); }

  void FlipByte(const std::string& file, int64_t at) {
    const std::string path = dir_.File(id_) + "/" + file;
    std::fstream stream(path, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(at);
    const char byte = static_cast<char>(stream.get());
    stream.seekp(at);
    stream.put(static_cast<char>(byte ^ 16));
  }
  NamespaceAudit AuditIt() {
    const absl::StatusOr<NamespaceAudit> audit = Audit(dir_.path(), id_, [](int64_t, int64_t) {});
    EXPECT_THAT(audit, IsOk());
    return audit.value_or(NamespaceAudit());
  }

  const TempDir dir_;
  const std::string id_ = SmallSpace().Id();
  const int64_t record_ = DiskRecordFormat(SmallShape(), 0).bytes();
};

TEST_F(DiskAuditTest, ListsNamespacesOnly) {
  dir_.Write("notes.txt", "mine");
  std::filesystem::create_directory(dir_.File("0123"));
  EXPECT_THAT(ListNamespaces(dir_.path()), ElementsAre(id_));
  EXPECT_THAT(ListNamespaces(dir_.File("none")), IsEmpty());
}

TEST_F(DiskAuditTest, SummarizesWithoutReadingBlocks) {
  FlipByte("records", 4096 + 3 * record_ + 30);
  const NamespaceSummary summary = Summarize(dir_.path(), id_);
  ASSERT_THAT(summary.status, IsOk());
  EXPECT_EQ(summary.blocks, 8);
  EXPECT_EQ(summary.broken, 1);
  EXPECT_EQ(summary.space.name, "tiny");
  EXPECT_EQ(summary.space.dtype, "bf16");
  EXPECT_GE(summary.size, Bytes(9 * 3 * 4096));
  EXPECT_LT(absl::Now() - summary.last_used, absl::Minutes(5));
}

TEST_F(DiskAuditTest, AnUnreadableDescriptionIsSaidToBe) {
  std::ofstream(dir_.File(id_) + "/namespace.json") << "{}";
  EXPECT_THAT(Summarize(dir_.path(), id_).status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("name: want a text")));
}

TEST_F(DiskAuditTest, AWholeNamespaceIsWhole) {
  const NamespaceAudit audit = AuditIt();
  EXPECT_EQ(audit.good, 9);
  EXPECT_THAT(audit.bad, IsEmpty());
  EXPECT_THAT(audit.broken, IsEmpty());
}

TEST_F(DiskAuditTest, FindsWhatIsBadChangesNothingAndEmptiesItWhenTold) {
  FlipByte("segment-000000", 4 * 3 * 4096 + 5000);
  FlipByte("records", 4096 + 7 * record_ + 100);
  for (int i = 0; i < 2; ++i) {
    const NamespaceAudit audit = AuditIt();
    EXPECT_EQ(audit.good, 7);
    EXPECT_THAT(audit.bad, ElementsAre(BlockId(4)));
    EXPECT_THAT(audit.broken, ElementsAre(BlockId(7)));
    ASSERT_THAT(audit.why, SizeIs(1));
    EXPECT_THAT(audit.why[0], HasSubstr("slot 4: checksum mismatch in layer 1"));
  }
  ASSERT_THAT(EmptySlots(dir_.path(), id_, {BlockId(4), BlockId(7)}), IsOk());
  const NamespaceAudit audit = AuditIt();
  EXPECT_EQ(audit.good, 7);
  EXPECT_THAT(audit.bad, IsEmpty());
  EXPECT_THAT(audit.broken, IsEmpty());
}

TEST_F(DiskAuditTest, AMissingSegmentMakesItsBlocksBad) {
  std::filesystem::remove(dir_.File(id_) + "/segment-000000");
  EXPECT_THAT(AuditIt().bad, SizeIs(9));
}

TEST_F(DiskAuditTest, RemovesANamespaceAndNothingElse) {
  dir_.Write("notes.txt", "mine");
  ASSERT_THAT(RemoveNamespace(dir_.path(), id_), IsOk());
  EXPECT_THAT(ListNamespaces(dir_.path()), IsEmpty());
  EXPECT_EQ(dir_.Read("notes.txt"), "mine");
}

}  // namespace
}  // namespace sluice::testing
