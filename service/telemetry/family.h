// Families of samples that are made when somebody scrapes, from values that others keep.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "prometheus/metric_family.h"

namespace sluice {

class FamilyBuilder {
 public:
  // `constant`: labels of every sample.
  FamilyBuilder(prometheus::MetricType type, const char* name, const char* help,
                std::map<std::string, std::string> constant)
      : constant_(std::move(constant)) {
    family_.type = type;
    family_.name = name;
    family_.help = help;
  }

  FamilyBuilder& Add(double value, const std::map<std::string, std::string>& labels = {}) {
    prometheus::ClientMetric sample;
    for (const auto* set : {&constant_, &labels}) {
      for (const auto& [key, text] : *set) sample.label.push_back({key, text});
    }
    if (family_.type == prometheus::MetricType::Counter) {
      sample.counter.value = value;
    } else {
      sample.gauge.value = value;
    }
    family_.metric.push_back(std::move(sample));
    return *this;
  }

  bool empty() const { return family_.metric.empty(); }
  // Call once.
  prometheus::MetricFamily Build() { return std::move(family_); }

 private:
  const std::map<std::string, std::string> constant_;
  prometheus::MetricFamily family_;
};

}  // namespace sluice
