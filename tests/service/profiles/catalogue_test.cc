// Looking profiles up by name and by path.
#include "service/profiles/catalogue.h"

#include <filesystem>
#include <string>

#include "gtest/gtest.h"
#include "service/profiles/built_in.h"
#include "tests/service/profiles/configs.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;
using testing::TempDir;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kNotFound = absl::StatusCode::kNotFound;

std::string BuiltIn(const std::string& path) {
  for (const BuiltInFile& file : BuiltInProfiles()) {
    if (file.path == path) return file.text;
  }
  return "";
}

void Replace(std::string& text, const std::string& from, const std::string& to) {
  text.replace(text.find(from), from.size(), to);
}

TEST(CatalogueTest, BuiltInNamesAreThoseOfTheirFiles) {
  const auto catalogue = Catalogue::Load();
  ASSERT_THAT(catalogue, IsOk());
  for (const BuiltInFile& file : BuiltInProfiles()) {
    const std::filesystem::path path(file.path);
    const bool model = path.parent_path() == "models";
    const std::string name = path.stem().string();
    EXPECT_TRUE(model ? catalogue->models().count(name) : catalogue->hardware().count(name))
        << file.path;
  }
}

TEST(CatalogueTest, AnUnknownNameSuggestsTheNearest) {
  const auto catalogue = Catalogue::Load();
  ASSERT_THAT(catalogue, IsOk());
  EXPECT_THAT(catalogue->FindModel("lama-3.1-70b"),
              StatusIs(kNotFound, AllOf(HasSubstr("model \"lama-3.1-70b\" is not known"),
                                        HasSubstr("did you mean llama-3.1-70b?"),
                                        HasSubstr("sluice plan --list"))));
  EXPECT_THAT(catalogue->FindHardware("h100_pcie5"),
              StatusIs(kNotFound, HasSubstr("did you mean h100-pcie5?")));
}

TEST(CatalogueTest, AModelIsFoundByDirectoryAndByFile) {
  const TempDir dir;
  dir.Write("config.json", testing::kKnownConfigs[0].json);
  const std::string own = dir.Write("mine.json", BuiltIn("models/qwen3-8b.json"));
  const auto catalogue = Catalogue::Load();
  ASSERT_THAT(catalogue, IsOk());
  const auto by_directory = catalogue->FindModel(dir.path());
  ASSERT_THAT(by_directory, IsOk());
  EXPECT_EQ(by_directory->layers, 32);
  EXPECT_EQ(by_directory->name, std::filesystem::path(dir.path()).filename().string());
  const auto by_config = catalogue->FindModel(dir.File("config.json"));
  ASSERT_THAT(by_config, IsOk());
  EXPECT_EQ(by_config->layers, 32);
  const auto by_file = catalogue->FindModel(own);
  ASSERT_THAT(by_file, IsOk());
  EXPECT_EQ(by_file->name, "qwen3-8b");
}

TEST(CatalogueTest, HardwareIsFoundByFile) {
  const TempDir dir;
  const std::string file = dir.Write("my.json", BuiltIn("hardware/l40s.json"));
  const auto catalogue = Catalogue::Load();
  ASSERT_THAT(catalogue, IsOk());
  const auto found = catalogue->FindHardware(file);
  ASSERT_THAT(found, IsOk());
  EXPECT_EQ(found->name, "l40s");
}

TEST(CatalogueTest, PathsThatLeadNowhereSaySo) {
  const TempDir dir;
  const auto catalogue = Catalogue::Load();
  ASSERT_THAT(catalogue, IsOk());
  EXPECT_THAT(catalogue->FindModel(dir.path()),
              StatusIs(kNotFound, HasSubstr("/config.json: no such file")));
  EXPECT_THAT(catalogue->FindHardware("./none.json"),
              StatusIs(kNotFound, HasSubstr("./none.json: no such file")));
  EXPECT_THAT(catalogue->FindHardware(dir.path()), StatusIs(kInvalid, HasSubstr("is a directory")));
}

TEST(CatalogueTest, ADirectoryAddsAndReplaces) {
  const TempDir dir;
  std::string faster = BuiltIn("hardware/l40s.json");
  Replace(faster, "864 GB/s", "999 GB/s");
  std::string renamed = BuiltIn("hardware/l40s.json");
  Replace(renamed, "\"l40s\"", "\"my-card\"");
  std::filesystem::create_directory(dir.File("hardware"));
  dir.Write("hardware/a.json", faster);
  dir.Write("hardware/b.json", renamed);
  dir.Write("hardware/notes.txt", "not a profile");
  const auto catalogue = Catalogue::Load({dir.path()});
  ASSERT_THAT(catalogue, IsOk());
  EXPECT_EQ(catalogue->FindHardware("l40s")->memory_bandwidth_peak, ByteRate(999e9));
  EXPECT_EQ(catalogue->FindHardware("my-card")->memory_bandwidth_peak, ByteRate(864e9));
}

TEST(CatalogueTest, ABadFileInADirectoryIsNamed) {
  const TempDir dir;
  std::filesystem::create_directory(dir.File("models"));
  dir.Write("models/bad.json", "{}");
  EXPECT_THAT(Catalogue::Load({dir.path()}),
              StatusIs(kInvalid, HasSubstr("models/bad.json: name: is missing")));
}

TEST(CatalogueTest, ADirectoryWithoutProfilesIsAnError) {
  const TempDir dir;
  EXPECT_THAT(Catalogue::Load({dir.path()}),
              StatusIs(kNotFound, HasSubstr("has neither a models nor a hardware folder")));
}

}  // namespace
}  // namespace sluice
