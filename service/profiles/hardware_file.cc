// HardwareProfile from and to its file.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backend/model/json_fields.h"
#include "scheduler/base/status_macros.h"
#include "service/profiles/profile_files.h"
#include "service/profiles/strict_object.h"

namespace sluice {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
using Presence = StrictObject::Presence;

FlopRate ReadFlopRate(StrictObject& in, const char* key) {
  return FlopRate(in.Quantity(key, UnitKind::kFlopRate));
}
ByteRate ReadByteRate(StrictObject& in, const char* key) {
  return ByteRate(in.Quantity(key, UnitKind::kByteRate));
}
Seconds ReadTime(StrictObject& in, const char* key) {
  return Seconds(in.Quantity(key, UnitKind::kTime));
}
Watts ReadPower(StrictObject& in, const char* key) {
  return Watts(in.Quantity(key, UnitKind::kPower));
}
Bytes ReadBytes(StrictObject& in, const char* key) {
  const double bytes = in.Quantity(key, UnitKind::kBytes);
  if (bytes < 9e18) return Bytes(std::llround(bytes));
  in.Fail(key, absl::StrCat(bytes, " bytes are more than any memory"));
  return Bytes(0);
}

// One section: read its keys, its source, and nothing else.
template <typename Read>
void Section(StrictObject& top, HardwareProfile& h, const char* key, Read read,
             Presence presence = Presence::kRequired) {
  const json* object = top.Object(key, presence);
  if (object == nullptr) return;
  StrictObject in = top.Nested(*object, key);
  read(in);
  h.sources[key] = in.String("source");
  in.RejectUnknown();
}

void ReadFormat(StrictObject& formats, HardwareProfile& h, const std::string& name) {
  const absl::StatusOr<NumberFormat> format = ParseNumberFormat(name);
  if (!format.ok()) {
    formats.Fail(name, std::string(format.status().message()));
    return;
  }
  const json* object = formats.Object(name.c_str());
  if (object == nullptr) return;
  StrictObject in = formats.Nested(*object, name.c_str());
  ComputeRate& rate = h.compute[static_cast<size_t>(*format)];
  rate.peak_dense = ReadFlopRate(in, "peak_dense");
  rate.peak_sparse = FlopRate(in.QuantityOrNone("peak_sparse", UnitKind::kFlopRate));
  rate.sustained = ReadFlopRate(in, "sustained");
  h.sources["compute." + name] = in.String("source");
  in.RejectUnknown();
}

void ReadCompute(StrictObject& top, HardwareProfile& h) {
  const json* object = top.Object("compute");
  if (object == nullptr) return;
  StrictObject formats = top.Nested(*object, "compute");
  for (const auto& [name, value] : object->items()) ReadFormat(formats, h, name);
  Section(top, h, "attention",
          [&](StrictObject& in) { h.attention_sustained = ReadFlopRate(in, "sustained"); });
}

void ReadMemory(StrictObject& top, HardwareProfile& h) {
  Section(top, h, "memory", [&](StrictObject& in) { h.memory = ReadBytes(in, "size"); });
  Section(top, h, "memory_bandwidth", [&](StrictObject& in) {
    h.memory_bandwidth_peak = ReadByteRate(in, "peak");
    h.memory_bandwidth_sustained = ReadByteRate(in, "sustained");
  });
  Section(top, h, "host", [&](StrictObject& in) {
    h.host_memory = ReadBytes(in, "memory");
    h.host_memory_bandwidth = ReadByteRate(in, "memory_bandwidth");
    h.host_attention = FlopRate(in.QuantityOrNone("attention", UnitKind::kFlopRate));
  });
}

LinkRate ReadDirection(StrictObject& link, const char* key) {
  LinkRate rate;
  const json* object = link.Object(key);
  if (object == nullptr) return rate;
  StrictObject in = link.Nested(*object, key);
  rate.peak = ReadByteRate(in, "peak");
  rate.sustained = ReadByteRate(in, "sustained");
  in.RejectUnknown();
  return rate;
}

void ReadLink(StrictObject& top, HardwareProfile& h) {
  Section(top, h, "link", [&](StrictObject& in) {
    h.to_device = ReadDirection(in, "to_device");
    h.to_host = ReadDirection(in, "to_host");
    h.duplex_sustained = ReadByteRate(in, "duplex_total");
    h.copy_overhead = ReadTime(in, "per_run");
    h.copy_latency = ReadTime(in, "latency");
    if (in.Has("kernel_below")) {
      const double bytes = in.QuantityOrNone("kernel_below", UnitKind::kBytes);
      h.kernel_below = Bytes(std::llround(std::min(bytes, 1e18)));
    }
  });
}

void ReadStorage(StrictObject& top, HardwareProfile& h, const char* key, StorageRate& rate) {
  Section(
      top, h, key,
      [&](StrictObject& in) {
        rate.read = ReadByteRate(in, "read");
        rate.write = ReadByteRate(in, "write");
        rate.latency = ReadTime(in, "latency");
      },
      Presence::kOrNone);
}

void ReadInPlace(StrictObject& top, HardwareProfile& h) {
  Section(
      top, h, "in_place",
      [&](StrictObject& in) {
        h.in_place_read = ReadByteRate(in, "read");
        h.in_place_reread = ReadByteRate(in, "reread");
        h.in_place_rows = in.Int("rows", 1, 1 << 16);
      },
      Presence::kOrAbsent);
}

void ReadRest(StrictObject& top, HardwareProfile& h) {
  ReadInPlace(top, h);
  Section(top, h, "step", [&](StrictObject& in) {
    h.step_floor = ReadTime(in, "floor");
    h.layer_floor = ReadTime(in, "floor_per_layer");
    h.step_launch = ReadTime(in, "launch");
    h.collective = ReadTime(in, "collective");
  });
  ReadStorage(top, h, "disk", h.disk);
  ReadStorage(top, h, "remote", h.remote);
  Section(top, h, "power", [&](StrictObject& in) {
    h.tdp = ReadPower(in, "tdp");
    h.idle = ReadPower(in, "idle");
    h.transfer = ReadPower(in, "transfer");
  });
  Section(
      top, h, "paper",
      [&](StrictObject& in) {
        h.paper_compute = ReadFlopRate(in, "compute");
        h.paper_link = ReadByteRate(in, "link");
      },
      Presence::kOrAbsent);
}

// Writes sections with their sources.
class Writer {
 public:
  explicit Writer(const HardwareProfile& profile) : profile_(profile) {}

  void Section(const std::string& key, ordered_json section) {
    out_[key] = WithSource(key, std::move(section));
  }
  void Text(const std::string& key, const std::string& text) { out_[key] = text; }
  void Compute() {
    for (size_t i = 0; i < profile_.compute.size(); ++i) {
      const ComputeRate& rate = profile_.compute[i];
      if (rate.sustained == FlopRate(0)) continue;
      const std::string name = NumberFormatName(static_cast<NumberFormat>(i));
      out_["compute"][name] =
          WithSource("compute." + name, {{"peak_dense", Write(rate.peak_dense)},
                                         {"peak_sparse", WriteOrNone(rate.peak_sparse)},
                                         {"sustained", Write(rate.sustained)}});
    }
  }
  void Storage(const std::string& key, const StorageRate& rate) {
    if (!rate.exists()) {
      Text(key, "none");
      return;
    }
    Section(key, {{"read", Write(rate.read)},
                  {"write", Write(rate.write)},
                  {"latency", Write(rate.latency)}});
  }

  static std::string Write(FlopRate r) { return FormatQuantity(r.value(), UnitKind::kFlopRate); }
  static std::string WriteOrNone(FlopRate r) { return r == FlopRate(0) ? "none" : Write(r); }
  static std::string Write(ByteRate r) { return FormatQuantity(r.value(), UnitKind::kByteRate); }
  static std::string WriteOrNone(Bytes b) { return b == Bytes(0) ? "none" : Write(b); }
  static std::string Write(Seconds t) { return FormatQuantity(t.value(), UnitKind::kTime); }
  static std::string Write(Watts w) { return FormatQuantity(w.value(), UnitKind::kPower); }
  static std::string Write(Bytes b) {
    return FormatQuantity(static_cast<double>(b.value()), UnitKind::kBytes);
  }
  static ordered_json Write(const LinkRate& r) {
    return {{"peak", Write(r.peak)}, {"sustained", Write(r.sustained)}};
  }

  std::string Finish() const { return out_.dump(2, ' ', false) + "\n"; }

 private:
  ordered_json WithSource(const std::string& key, ordered_json section) const {
    const auto source = profile_.sources.find(key);
    section["source"] = source == profile_.sources.end() ? "not stated" : source->second;
    return section;
  }

  const HardwareProfile& profile_;
  ordered_json out_;
};

}  // namespace

absl::StatusOr<HardwareProfile> HardwareFromJson(const std::string& text,
                                                 const std::string& where) {
  SLUICE_ASSIGN_OR_RETURN(const json parsed, ParseJsonObject(text, where, /*unique_keys=*/true));
  absl::Status status;
  StrictObject top(parsed, where, status);
  HardwareProfile h;
  h.name = top.String("name");
  h.description = top.String("description");
  ReadCompute(top, h);
  ReadMemory(top, h);
  ReadLink(top, h);
  ReadRest(top, h);
  top.RejectUnknown();
  SLUICE_RETURN_IF_ERROR(status);
  if (const absl::Status valid = h.Validate(); !valid.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", valid.message()));
  }
  return h;
}

std::string HardwareToJson(const HardwareProfile& h) {
  Writer out(h);
  out.Text("name", h.name);
  out.Text("description", h.description.empty() ? "not stated" : h.description);
  out.Compute();
  out.Section("attention", {{"sustained", Writer::Write(h.attention_sustained)}});
  out.Section("memory", {{"size", Writer::Write(h.memory)}});
  out.Section("memory_bandwidth", {{"peak", Writer::Write(h.memory_bandwidth_peak)},
                                   {"sustained", Writer::Write(h.memory_bandwidth_sustained)}});
  ordered_json link = {{"to_device", Writer::Write(h.to_device)},
                       {"to_host", Writer::Write(h.to_host)},
                       {"duplex_total", Writer::Write(h.duplex_sustained)},
                       {"per_run", Writer::Write(h.copy_overhead)},
                       {"latency", Writer::Write(h.copy_latency)}};
  if (h.kernel_below.has_value()) link["kernel_below"] = Writer::WriteOrNone(*h.kernel_below);
  out.Section("link", std::move(link));
  out.Section("step", {{"floor", Writer::Write(h.step_floor)},
                       {"floor_per_layer", Writer::Write(h.layer_floor)},
                       {"launch", Writer::Write(h.step_launch)},
                       {"collective", Writer::Write(h.collective)}});
  out.Section("host", {{"memory", Writer::Write(h.host_memory)},
                       {"memory_bandwidth", Writer::Write(h.host_memory_bandwidth)},
                       {"attention", Writer::WriteOrNone(h.host_attention)}});
  if (h.in_place_read > ByteRate(0)) {
    out.Section("in_place", {{"read", Writer::Write(h.in_place_read)},
                             {"reread", Writer::Write(h.in_place_reread)},
                             {"rows", h.in_place_rows}});
  }
  out.Storage("disk", h.disk);
  out.Storage("remote", h.remote);
  out.Section("power", {{"tdp", Writer::Write(h.tdp)},
                        {"idle", Writer::Write(h.idle)},
                        {"transfer", Writer::Write(h.transfer)}});
  if (h.paper_compute > FlopRate(0)) {
    out.Section("paper", {{"compute", Writer::Write(h.paper_compute)},
                          {"link", Writer::Write(h.paper_link)}});
  }
  return out.Finish();
}

}  // namespace sluice
