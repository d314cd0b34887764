// Report: one HTML page in one file, for people: a title, a sentence that says the result, key
// figures, tables and charts. No scripts, no fonts, no network; light and dark by the reader's
// setting; two columns on a desktop, one on a phone; prints.
//
//   Report report("sluice plan", "Offloading pays: …");
//   report.AddFigures({{"κ_crit", "14.3", "", "cached tokens per new token"}});
//   report.AddSection("Where the time goes");
//   report.AddChart({"Time to first token", "…", chart});
//   WriteReport(path, report);
//
// All text is escaped. The same calls give the same bytes; nothing like a date is added.
//
// Thread-compatible.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "service/report/chart.h"

namespace sluice {

// A number one should remember, in large type.
struct KeyFigure {
  std::string label = {};
  std::string value = {};
  std::string unit = {};
  std::string note = {};  // one short line below; may be empty
};

struct ReportTable {
  struct Column {
    std::string title = {};
    bool number = true;  // right-aligned; text is left-aligned
  };
  std::string title = {};  // may be empty
  std::vector<Column> columns = {};
  std::vector<std::vector<std::string>> rows = {};  // as many cells as columns
  std::string note = {};                            // below; may be empty
  int highlight = -1;                               // row to stress; -1: none
};

struct ReportChart {
  std::string title = {};
  std::string note = {};  // what to see in it, one or two sentences
  Chart chart = {};
  bool wide = false;  // the whole width instead of half of it
};

class Report {
 public:
  // `summary` is the answer in one or two sentences.
  Report(std::string title, std::string summary);

  void AddFigures(const std::vector<KeyFigure>& figures);
  // A heading with an optional paragraph.
  void AddSection(const std::string& title, const std::string& text = "");
  void AddParagraph(const std::string& text);
  // REQUIRES: every row has as many cells as there are columns.
  void AddTable(const ReportTable& table);
  // Charts that follow each other share rows, two by two, unless wide.
  void AddChart(const ReportChart& chart);
  // Small print at the end: the command, version, sources.
  void AddFooter(const std::string& text);

  // The whole page.
  std::string Html() const;

 private:
  void CloseGrid();
  void OpenGrid();

  std::string title_;
  std::string summary_;
  std::string body_;
  std::vector<std::string> footer_;
  bool grid_open_ = false;
};

// Writes the page. Returns UNAVAILABLE naming the path if it cannot be written.
absl::Status WriteReport(const std::string& path, const Report& report);

}  // namespace sluice
