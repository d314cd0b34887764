#include "service/cli/table.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "scheduler/base/check.h"

namespace sluice {
namespace {

std::string Pad(const std::string& cell, size_t width, Table::Align align) {
  const std::string blanks(width - DisplayWidth(cell), ' ');
  return align == Table::Align::kLeft ? cell + blanks : blanks + cell;
}

}  // namespace

size_t DisplayWidth(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  }));
}

std::string Fixed(double value, int digits) { return absl::StrFormat("%.*f", digits, value); }

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::AddRow(std::vector<std::string> cells) {
  SLUICE_CHECK(cells.size() == columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::Render() const {
  std::vector<size_t> widths;
  std::vector<std::string> titles;
  std::vector<std::string> rule;
  for (size_t c = 0; c < columns_.size(); ++c) {
    size_t width = DisplayWidth(columns_[c].title);
    for (const std::vector<std::string>& row : rows_) width = std::max(width, DisplayWidth(row[c]));
    widths.push_back(width);
    titles.push_back(columns_[c].title);
    rule.emplace_back(width, '-');
  }
  std::string text;
  const auto add_line = [&](const std::vector<std::string>& cells) {
    std::string line;
    for (size_t c = 0; c < cells.size(); ++c) {
      if (c > 0) line += "  ";
      line += Pad(cells[c], widths[c], columns_[c].align);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  add_line(titles);
  add_line(rule);
  for (const std::vector<std::string>& row : rows_) add_line(row);
  return text;
}

}  // namespace sluice
