#include "service/cli/cache_command.h"

#include <fstream>
#include <sstream>

#include "gtest/gtest.h"
#include "service/cli/app.h"
#include "tests/backend/kv/store_fixture.h"

namespace sluice::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
};

Outcome Cache(const std::vector<std::string>& args) {
  std::istringstream in;
  std::ostringstream out;
  std::ostringstream err;
  std::vector<std::string> all = {"cache"};
  all.insert(all.end(), args.begin(), args.end());
  const int code = RunCli(all, CliIo{in, out, err});
  return {code, out.str(), err.str()};
}

class CacheCommandTest : public ::testing::Test {
 protected:
  CacheCommandTest() {
    DiskStoreOptions options = SmallStore(dir_);
    EXPECT_THAT(WriteAll(*OpenStore(options), MakePrompt(1, 5)), IsOk());
    options.space.model = "another model";
    options.space.name = "other";
    other_ = options.space.Id();
    EXPECT_THAT(WriteAll(*OpenStore(options), MakePrompt(2, 3)), IsOk());
  }

  const TempDir dir_;
  const std::string flag_ = "--kv-disk-dir=" + dir_.path();
  const std::string tiny_ = SmallSpace().Id();
  std::string other_;
};

TEST_F(CacheCommandTest, TheWordAfterTheNameIsTheAction) {
  for (const char* action : {"ls", "--action=ls"}) {
    const Outcome done = Cache({action, flag_});
    EXPECT_EQ(done.code, 0) << done.err;
    for (const std::string& text : {tiny_, other_, std::string("tiny"), std::string("bf16"),
                                    std::string("raw"), std::string("just now")}) {
      EXPECT_THAT(done.out, HasSubstr(text));
    }
    EXPECT_THAT(done.out, Not(HasSubstr("in use")));
  }
}

TEST_F(CacheCommandTest, OtherCommandsTakeNoWord) {
  std::istringstream in;
  std::ostringstream out;
  std::ostringstream err;
  EXPECT_EQ(RunCli({"serve", "ls"}, CliIo{in, out, err}), 2);
  EXPECT_THAT(err.str(), HasSubstr("unexpected argument \"ls\""));
}

TEST_F(CacheCommandTest, VerifyTellsGoodFromBad) {
  EXPECT_EQ(Cache({"verify", flag_}).code, 0);
  std::fstream file(dir_.File(tiny_) + "/segment-000000",
                    std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(2 * 3 * 4096 + 17);
  file.put('!');
  file.close();
  const Outcome done = Cache({"verify", flag_});
  EXPECT_EQ(done.code, 1);
  EXPECT_THAT(done.out, HasSubstr(tiny_ + ": 4 blocks good, 1 bad, 0 records broken"));
  EXPECT_THAT(done.out, HasSubstr("slot 2: checksum mismatch in layer 0"));
  EXPECT_THAT(done.out, HasSubstr(other_ + ": 3 blocks good, 0 bad"));
}

TEST_F(CacheCommandTest, GcChangesNothingUnlessToldTo) {
  const Outcome dry = Cache({"gc", flag_, "--keep=" + tiny_});
  EXPECT_EQ(dry.code, 0) << dry.err;
  EXPECT_THAT(dry.out, HasSubstr("keep " + tiny_ + ": 5 blocks"));
  EXPECT_THAT(dry.out, HasSubstr("remove " + other_ + ": other, 3 blocks"));
  EXPECT_THAT(dry.out, HasSubstr("would be free"));
  EXPECT_THAT(ListNamespaces(dir_.path()), SizeIs(2));
  const Outcome done = Cache({"gc", flag_, "--keep=" + tiny_, "--no-dry-run"});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(ListNamespaces(dir_.path()), ::testing::ElementsAre(tiny_));
}

TEST_F(CacheCommandTest, GcKeepsOnlyWhatIsThere) {
  const Outcome done = Cache({"gc", flag_, "--keep=0123"});
  EXPECT_EQ(done.code, 2);
  EXPECT_THAT(done.err, HasSubstr("--keep: 0123 is not in"));
}

TEST_F(CacheCommandTest, VerifyAndGcWaitForNobody) {
  const auto lock = DiskLock::Acquire(dir_.path());
  for (const char* action : {"verify", "gc"}) {
    const Outcome done = Cache({action, flag_});
    EXPECT_EQ(done.code, 1);
    EXPECT_THAT(done.err, HasSubstr("in use by process"));
  }
  EXPECT_THAT(Cache({"ls", flag_}).out, HasSubstr("in use by process"));
}

TEST_F(CacheCommandTest, WrongUsageIsNamed) {
  EXPECT_THAT(Cache({"ls"}).err, HasSubstr("--kv-disk-dir"));
  EXPECT_THAT(Cache({flag_}).err, HasSubstr("--action"));
  EXPECT_THAT(Cache({"burn", flag_}).err, HasSubstr("ls, verify, gc"));
  EXPECT_THAT(Cache({"ls", flag_, "--keep=x"}).err, HasSubstr("--keep: is for gc"));
  EXPECT_EQ(Cache({"ls", "--kv-disk-dir=/nowhere/at/all"}).code, 2);
}

TEST(AgeTextTest, IsRoughAndShort) {
  EXPECT_EQ(AgeText(absl::Seconds(5)), "just now");
  EXPECT_EQ(AgeText(absl::Minutes(1)), "1 minute ago");
  EXPECT_EQ(AgeText(absl::Hours(30)), "30 hours ago");
  EXPECT_EQ(AgeText(absl::Hours(49)), "2 days ago");
}

}  // namespace
}  // namespace sluice::testing
