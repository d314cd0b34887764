// StopMatcher finds the first of several strings in a text that arrives in pieces.
//
// The first occurrence is the one that ends first; of several that end at one place, the longest.
// Hence the answer depends on the text only, not on how it is cut into pieces.
//
// An Aho-Corasick automaton (Aho and Corasick, CACM 18(6), 1975). Its state after a piece is the
// longest end of the text that is the beginning of some stop string: exactly what must be held
// back. Amortised O(1) per byte; memory O(total bytes of the strings).
//
// Thread-safe after construction: the state belongs to the caller.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace sluice {

class StopMatcher {
 public:
  using State = int32_t;
  static constexpr State kStart = 0;

  // REQUIRES: no string is empty, and all together have less than 2^31 bytes.
  explicit StopMatcher(std::vector<std::string> stops);

  bool empty() const { return stops_.empty(); }

  // The state after one more byte.
  State Next(State state, char byte) const;

  // The string that ends at `state`, or null.
  const std::string* Matched(State state) const;

  // How many of the last bytes may belong to a stop string that is not complete.
  size_t HeldBack(State state) const { return nodes_[static_cast<size_t>(state)].depth; }

 private:
  struct Node {
    size_t depth = 0;     // bytes from the root
    State fail = kStart;  // the node of the longest proper end that is a beginning
    int32_t match = -1;   // index of the longest string ending here
    std::vector<std::pair<char, State>> children;  // few, so searched in order
  };

  // The child of `state` by `byte`, or -1.
  State Child(State state, char byte) const;

  std::vector<std::string> stops_;
  std::vector<Node> nodes_;  // by state; parents before children
};

}  // namespace sluice
