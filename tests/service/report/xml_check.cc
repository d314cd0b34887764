#include "tests/service/report/xml_check.h"

#include <cctype>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace sluice::testing {
namespace {

class Parser {
 public:
  explicit Parser(const std::string& text) : text_(text) {}

  absl::StatusOr<XmlElement> Document() {
    while (Skip("<?xml") || Skip("<!DOCTYPE")) {
      while (at_ < text_.size() && text_[at_] != '>') ++at_;
      SLUICE_RETURN_IF_ERROR(Expect(">"));
      SkipBlanks();
    }
    SLUICE_ASSIGN_OR_RETURN(XmlElement root, Element());
    SkipBlanks();
    if (at_ != text_.size()) return Error("text after the root element");
    return root;
  }

 private:
  absl::Status Error(const std::string& what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("offset ", at_, ": ", what, " near: ", text_.substr(at_, 60)));
  }
  bool Skip(const std::string& word) {
    if (text_.compare(at_, word.size(), word) != 0) return false;
    at_ += word.size();
    return true;
  }
  absl::Status Expect(const std::string& word) {
    return Skip(word) ? absl::OkStatus() : Error(absl::StrCat("want ", word));
  }
  void SkipBlanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }

  std::string Name() {
    const size_t begin = at_;
    while (at_ < text_.size() &&
           (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '-')) {
      ++at_;
    }
    return text_.substr(begin, at_ - begin);
  }

  // Character data up to `end`; entities are resolved.
  absl::StatusOr<std::string> Text(char end) {
    std::string out;
    while (at_ < text_.size() && text_[at_] != end) {
      const char c = text_[at_];
      if (c == '<' || (c == '"' && end == '"')) return Error("unescaped character");
      if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') {
        return Error("control character");
      }
      if (c != '&') {
        out += c;
        ++at_;
        continue;
      }
      const std::pair<const char*, char> entities[] = {
          {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&#39;", '\''}};
      bool known = false;
      for (const auto& [entity, meaning] : entities) {
        if (!Skip(entity)) continue;
        out += meaning;
        known = true;
        break;
      }
      if (!known) return Error("unknown entity");
    }
    return out;
  }

  absl::Status Attribute(XmlElement& element) {
    const std::string name = Name();
    if (name.empty()) return Error("want an attribute");
    SLUICE_RETURN_IF_ERROR(Expect("=\""));
    SLUICE_ASSIGN_OR_RETURN(std::string value, Text('"'));
    SLUICE_RETURN_IF_ERROR(Expect("\""));
    if (!element.attributes.emplace(name, value).second) {
      return Error(absl::StrCat("attribute ", name, " twice"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<XmlElement> Element() {
    XmlElement element;
    SLUICE_RETURN_IF_ERROR(Expect("<"));
    element.name = Name();
    if (element.name.empty()) return Error("want a name");
    while (at_ < text_.size() && text_[at_] == ' ') {
      SkipBlanks();
      SLUICE_RETURN_IF_ERROR(Attribute(element));
    }
    if (Skip("/>")) return element;
    SLUICE_RETURN_IF_ERROR(Expect(">"));
    while (true) {
      SLUICE_ASSIGN_OR_RETURN(const std::string text, Text('<'));
      element.text += text;
      if (Skip("</")) break;
      if (at_ == text_.size()) return Error(absl::StrCat(element.name, " is not closed"));
      SLUICE_ASSIGN_OR_RETURN(XmlElement child, Element());
      element.children.push_back(std::move(child));
    }
    const std::string closed = Name();
    if (closed != element.name) {
      return Error(absl::StrCat(closed, " closes ", element.name));
    }
    SLUICE_RETURN_IF_ERROR(Expect(">"));
    return element;
  }

  const std::string& text_;
  size_t at_ = 0;
};

}  // namespace

std::vector<const XmlElement*> XmlElement::All(const std::string& wanted) const {
  std::vector<const XmlElement*> found;
  if (name == wanted) found.push_back(this);
  for (const XmlElement& child : children) {
    for (const XmlElement* element : child.All(wanted)) found.push_back(element);
  }
  return found;
}

std::string XmlElement::AllText() const {
  std::string all = text;
  for (const XmlElement& child : children) all += child.AllText();
  return all;
}

absl::StatusOr<XmlElement> ParseXml(const std::string& text) { return Parser(text).Document(); }

}  // namespace sluice::testing
