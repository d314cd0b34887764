#include "service/grpc/stop_matcher.h"

#include <deque>
#include <utility>

namespace sluice {

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)), nodes_(1) {
  for (size_t i = 0; i < stops_.size(); ++i) {
    State at = kStart;
    for (const char byte : stops_[i]) {
      State child = Child(at, byte);
      if (child < 0) {
        child = static_cast<State>(nodes_.size());
        const size_t depth = nodes_[static_cast<size_t>(at)].depth + 1;
        nodes_.push_back({depth, kStart, -1, {}});
        nodes_[static_cast<size_t>(at)].children.emplace_back(byte, child);
      }
      at = child;
    }
    nodes_[static_cast<size_t>(at)].match = static_cast<int32_t>(i);
  }

  // Breadth first, so that the links of shorter prefixes are ready.
  std::deque<State> queue;
  for (const auto& [byte, child] : nodes_[kStart].children) queue.push_back(child);
  while (!queue.empty()) {
    const State at = queue.front();
    queue.pop_front();
    Node& node = nodes_[static_cast<size_t>(at)];
    // A string that ends here is longer than any that ends at the link.
    if (node.match < 0) node.match = nodes_[static_cast<size_t>(node.fail)].match;
    for (const auto& [byte, child] : node.children) {
      nodes_[static_cast<size_t>(child)].fail = Next(node.fail, byte);
      queue.push_back(child);
    }
  }
}

StopMatcher::State StopMatcher::Child(State state, char byte) const {
  for (const auto& [label, child] : nodes_[static_cast<size_t>(state)].children) {
    if (label == byte) return child;
  }
  return -1;
}

StopMatcher::State StopMatcher::Next(State state, char byte) const {
  for (;; state = nodes_[static_cast<size_t>(state)].fail) {
    if (const State child = Child(state, byte); child >= 0) return child;
    if (state == kStart) return kStart;
  }
}

const std::string* StopMatcher::Matched(State state) const {
  const int32_t match = nodes_[static_cast<size_t>(state)].match;
  return match < 0 ? nullptr : &stops_[static_cast<size_t>(match)];
}

}  // namespace sluice
