#include "service/report/report.h"

#include <fstream>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "service/report/style.h"
#include "service/report/svg.h"

namespace sluice {
namespace {

std::string Element(const std::string& tag, const std::string& classes, const std::string& text) {
  return absl::StrCat("<", tag, classes.empty() ? "" : absl::StrCat(" class=\"", classes, "\""),
                      ">", EscapeXml(text), "</", tag, ">\n");
}

std::string Note(const std::string& text) { return text.empty() ? "" : Element("p", "note", text); }

std::string Row(const ReportTable& table, const std::vector<std::string>& cells, bool best) {
  SLUICE_CHECK(cells.size() == table.columns.size());
  std::string html = best ? "<tr class=\"best\">" : "<tr>";
  for (size_t c = 0; c < cells.size(); ++c) {
    absl::StrAppend(&html, table.columns[c].number ? "<td class=\"num\">" : "<td>",
                    EscapeXml(cells[c]), "</td>");
  }
  return html + "</tr>\n";
}

// The drawings of a chart for different screens; the page's style shows one of them.
std::string Drawings(const ReportChart& chart) {
  const auto drawing = [&](const char* classes, int width) {
    return absl::StrCat("<div class=\"", classes, "\">", RenderSvg(chart.chart, width, chart.title),
                        "</div>\n");
  };
  if (std::holds_alternative<GanttChart>(chart.chart)) {
    // Too fine to be drawn smaller: narrow screens scroll.
    return absl::StrCat("<div class=\"scroll fixed\">",
                        RenderSvg(chart.chart, chart.wide ? kFullWidth : kHalfWidth, chart.title),
                        "</div>\n");
  }
  std::string html = drawing("n", kNarrowWidth) + drawing("h", kHalfWidth);
  if (chart.wide) html += drawing("w", kFullWidth);
  return html;
}

}  // namespace

Report::Report(std::string title, std::string summary)
    : title_(std::move(title)), summary_(std::move(summary)) {}

void Report::CloseGrid() {
  if (grid_open_) body_ += "</div>\n";
  grid_open_ = false;
}

void Report::OpenGrid() {
  if (!grid_open_) body_ += "<div class=\"grid\">\n";
  grid_open_ = true;
}

void Report::AddFigures(const std::vector<KeyFigure>& figures) {
  CloseGrid();
  body_ += "<div class=\"figures\">\n";
  for (const KeyFigure& figure : figures) {
    absl::StrAppend(&body_, "<div class=\"card\"><div class=\"label\">", EscapeXml(figure.label),
                    "</div><div class=\"value\">", EscapeXml(figure.value));
    if (!figure.unit.empty()) {
      absl::StrAppend(&body_, "<small>", EscapeXml(figure.unit), "</small>");
    }
    absl::StrAppend(&body_, "</div>", Note(figure.note), "</div>\n");
  }
  body_ += "</div>\n";
}

void Report::AddSection(const std::string& title, const std::string& text) {
  CloseGrid();
  body_ += Element("h2", "", title);
  if (!text.empty()) AddParagraph(text);
}

void Report::AddParagraph(const std::string& text) {
  CloseGrid();
  body_ += Element("p", "", text);
}

void Report::AddTable(const ReportTable& table) {
  CloseGrid();
  body_ += "<div class=\"card tablecard\">\n";
  if (!table.title.empty()) body_ += Element("h3", "", table.title);
  body_ += "<div class=\"scroll\"><table>\n<thead><tr>";
  for (const ReportTable::Column& column : table.columns) {
    absl::StrAppend(&body_, column.number ? "<th class=\"num\">" : "<th>", EscapeXml(column.title),
                    "</th>");
  }
  body_ += "</tr></thead>\n<tbody>\n";
  for (size_t i = 0; i < table.rows.size(); ++i) {
    body_ += Row(table, table.rows[i], static_cast<int>(i) == table.highlight);
  }
  absl::StrAppend(&body_, "</tbody></table></div>\n", Note(table.note), "</div>\n");
}

void Report::AddChart(const ReportChart& chart) {
  OpenGrid();
  absl::StrAppend(&body_, "<figure class=\"card ", chart.wide ? "wide" : "half", "\">\n",
                  Element("h3", "", chart.title), Note(chart.note), Drawings(chart), "</figure>\n");
}

void Report::AddFooter(const std::string& text) { footer_.push_back(text); }

std::string Report::Html() const {
  std::string footer;
  for (const std::string& line : footer_) footer += Element("p", "", line);
  // Well-formed XML as well: every element is closed.
  return absl::StrCat(
      "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n",
      "<meta charset=\"utf-8\"/>\n",
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>",
      EscapeXml(title_), "</title>\n<style>", PaletteCss(":root"), PageCss(), ChartCss(),
      "</style>\n</head>\n<body>\n<main>\n", Element("h1", "", title_),
      summary_.empty() ? "" : Element("p", "summary", summary_), body_,
      grid_open_ ? "</div>\n" : "",
      footer.empty() ? "" : absl::StrCat("<footer>\n", footer, "</footer>\n"),
      "</main>\n</body>\n</html>\n");
}

absl::Status WriteReport(const std::string& path, const Report& report) {
  std::ofstream file(path, std::ios::binary);
  if (!(file << report.Html() << std::flush)) {
    return absl::UnavailableError(
        absl::StrCat(path, ": the report cannot be written; check path and space"));
  }
  return absl::OkStatus();
}

}  // namespace sluice
