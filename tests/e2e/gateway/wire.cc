#include "tests/e2e/gateway/wire.h"

#include <cstring>

#include "tests/e2e/gateway/check.h"

namespace sluice::gateway {
namespace {

constexpr int kVarint = 0;
constexpr int kFixed64 = 1;
constexpr int kBytes = 2;
constexpr int kFixed32 = 5;

uint64_t TakeVarint(std::string_view* bytes) {
  uint64_t value = 0;
  for (int shift = 0; shift < 70; shift += 7) {
    Check(!bytes->empty(), "a message ends in the middle of a number");
    const auto byte = static_cast<unsigned char>(bytes->front());
    bytes->remove_prefix(1);
    value |= uint64_t{byte & 0x7fU} << shift;
    if (byte < 0x80) return value;
  }
  Check(false, "a number has more than ten bytes");
  return 0;
}

uint64_t TakeFixed(std::string_view* bytes, size_t size) {
  Check(bytes->size() >= size, "a message ends in the middle of a field");
  uint64_t value = 0;
  for (size_t i = size; i-- > 0;) value = (value << 8) | static_cast<unsigned char>((*bytes)[i]);
  bytes->remove_prefix(size);
  return value;
}

template <class To, class From>
To BitCast(From from) {
  To to;
  static_assert(sizeof(to) == sizeof(from));
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

}  // namespace

void Writer::Varint(uint64_t value) {
  for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<char>((value & 0x7f) | 0x80));
  bytes_.push_back(static_cast<char>(value));
}

Writer& Writer::Int(int field, uint64_t value) {
  Key(field, kVarint);
  Varint(value);
  return *this;
}

Writer& Writer::Float(int field, float value) {
  Key(field, kFixed32);
  auto bits = BitCast<uint32_t>(value);
  for (int i = 0; i < 4; ++i, bits >>= 8) bytes_.push_back(static_cast<char>(bits & 0xff));
  return *this;
}

Writer& Writer::Bytes(int field, std::string_view value) {
  Key(field, kBytes);
  Varint(value.size());
  bytes_.append(value);
  return *this;
}

Writer& Writer::Packed(int field, const std::vector<uint32_t>& values) {
  Writer inner;
  for (const uint32_t value : values) inner.Varint(value);
  return Bytes(field, inner.bytes());
}

Fields::Fields(std::string_view bytes) {
  while (!bytes.empty()) {
    const uint64_t key = TakeVarint(&bytes);
    Value value;
    value.type = static_cast<int>(key & 7);
    switch (value.type) {
      case kVarint:
        value.number = TakeVarint(&bytes);
        break;
      case kFixed64:
        value.number = TakeFixed(&bytes, 8);
        break;
      case kFixed32:
        value.number = TakeFixed(&bytes, 4);
        break;
      case kBytes: {
        const uint64_t size = TakeVarint(&bytes);
        Check(size <= bytes.size(), "a field is longer than its message");
        value.bytes = std::string(bytes.substr(0, size));
        bytes.remove_prefix(size);
        break;
      }
      default:
        Check(false, "a field has an unknown wire type");
    }
    values_[static_cast<int>(key >> 3)].push_back(std::move(value));
  }
}

uint64_t Fields::Int(int field) const {
  const auto it = values_.find(field);
  if (it == values_.end()) return 0;
  Check(it->second.back().type == kVarint, "a number is not a varint");
  return it->second.back().number;
}

double Fields::Double(int field) const {
  const auto it = values_.find(field);
  if (it == values_.end()) return 0;
  Check(it->second.back().type == kFixed64, "a double has not 64 bits");
  return BitCast<double>(it->second.back().number);
}

std::string Fields::Bytes(int field) const {
  const std::vector<std::string> all = All(field);
  return all.empty() ? "" : all.back();
}

std::vector<std::string> Fields::All(int field) const {
  std::vector<std::string> all;
  const auto it = values_.find(field);
  if (it == values_.end()) return all;
  for (const Value& value : it->second) {
    Check(value.type == kBytes, "a string or message is a number");
    all.push_back(value.bytes);
  }
  return all;
}

std::vector<uint64_t> Fields::Ints(int field) const {
  std::vector<uint64_t> all;
  const auto it = values_.find(field);
  if (it == values_.end()) return all;
  for (const Value& value : it->second) {
    if (value.type == kVarint) {
      all.push_back(value.number);
      continue;
    }
    Check(value.type == kBytes, "a repeated number has the wrong wire type");
    for (std::string_view rest = value.bytes; !rest.empty();) all.push_back(TakeVarint(&rest));
  }
  return all;
}

std::vector<float> Fields::Floats(int field) const {
  std::vector<float> all;
  const auto it = values_.find(field);
  if (it == values_.end()) return all;
  const auto add = [&all](uint64_t bits) {
    all.push_back(BitCast<float>(static_cast<uint32_t>(bits)));
  };
  for (const Value& value : it->second) {
    if (value.type == kFixed32) {
      add(value.number);
      continue;
    }
    Check(value.type == kBytes, "a repeated float has the wrong wire type");
    for (std::string_view rest = value.bytes; !rest.empty();) add(TakeFixed(&rest, 4));
  }
  return all;
}

}  // namespace sluice::gateway
