// Table: text columns for the terminal.
//
//   request  prompt  TTFT ms
//   -------  ------  -------
//   1          1024     12.5
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice {

class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kRight;
  };

  explicit Table(std::vector<Column> columns);

  // REQUIRES: as many cells as columns.
  void AddRow(std::vector<std::string> cells);

  // Header, rule and rows, each ending in a newline; no trailing blanks. Columns are as wide as
  // their widest cell and two blanks apart.
  std::string Render() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// Characters of valid UTF-8 text: what a terminal shows, for scripts without wide or combining
// ones.
size_t DisplayWidth(std::string_view text);

// "12.3": `digits` after the point.
std::string Fixed(double value, int digits);

}  // namespace sluice
