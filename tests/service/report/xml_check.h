// A strict reader of XML, small enough to be obviously right: elements, attributes, text and the
// five named entities. Anything a browser would have to guess about is an error.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace sluice::testing {

struct XmlElement {
  std::string name;
  std::map<std::string, std::string> attributes;  // unescaped
  std::vector<XmlElement> children;
  std::string text;  // of this element alone, unescaped

  // This element and all below it with that name, in document order.
  std::vector<const XmlElement*> All(const std::string& wanted) const;
  // All text of this element and those below, in order of elements.
  std::string AllText() const;
};

// The root element. An XML or DOCTYPE declaration may come before it. Returns INVALID_ARGUMENT with
// the offset of the first thing that is wrong.
absl::StatusOr<XmlElement> ParseXml(const std::string& text);

}  // namespace sluice::testing
