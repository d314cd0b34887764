// Protobuf's wire format by hand, so that what a gateway sends and expects is checked against
// numbers and types, not against our own .proto files.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::gateway {

// Appends fields of a message.
class Writer {
 public:
  Writer& Int(int field, uint64_t value);  // any varint type
  Writer& Float(int field, float value);
  Writer& Bytes(int field, std::string_view value);  // string, bytes or message
  Writer& Packed(int field, const std::vector<uint32_t>& values);
  const std::string& bytes() const { return bytes_; }

 private:
  void Varint(uint64_t value);
  void Key(int field, int type) {
    Varint((static_cast<uint64_t>(field) << 3) | static_cast<uint64_t>(type));
  }

  std::string bytes_;
};

// The fields of a message. Absent ones are 0 or empty, as in proto3.
class Fields {
 public:
  // Bytes that are no message end the program with an error: that is what is being tested.
  explicit Fields(std::string_view bytes);

  bool Has(int field) const { return values_.count(field) > 0; }
  uint64_t Int(int field) const;
  double Double(int field) const;
  std::string Bytes(int field) const;
  std::vector<std::string> All(int field) const;  // of a repeated string or message
  std::vector<uint64_t> Ints(int field) const;    // packed or not
  std::vector<float> Floats(int field) const;     // packed or not
  Fields Message(int field) const { return Fields(Bytes(field)); }

 private:
  struct Value {
    int type = 0;
    uint64_t number = 0;
    std::string bytes;
  };
  std::map<int, std::vector<Value>> values_;
};

}  // namespace sluice::gateway
