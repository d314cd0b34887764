#include "service/tokenizer/byte_alphabet.h"

#include <array>

#include "service/tokenizer/utf8.h"

namespace sluice {
namespace {

constexpr char32_t kAlphabetEnd = 0x100 + 68;

struct Character {
  char bytes[2] = {};
  uint8_t size = 0;
};

struct Tables {
  std::array<Character, 256> text;
  std::array<int16_t, kAlphabetEnd> byte;  // -1: not of the alphabet
};

constexpr bool IsShownAsItself(int b) {
  return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
}

constexpr Tables MakeTables() {
  Tables t = {};
  for (int16_t& b : t.byte) b = -1;
  int next = 0x100;
  for (int b = 0; b < 256; ++b) {
    const int c = IsShownAsItself(b) ? b : next++;
    t.byte[static_cast<size_t>(c)] = static_cast<int16_t>(b);
    Character& text = t.text[static_cast<size_t>(b)];
    text.size = c < 0x80 ? 1 : 2;
    text.bytes[0] = static_cast<char>(c < 0x80 ? c : 0xC0 | (c >> 6));
    text.bytes[1] = static_cast<char>(c < 0x80 ? 0 : 0x80 | (c & 0x3F));
  }
  return t;
}

constexpr Tables kTables = MakeTables();

}  // namespace

std::string_view ByteAsText(uint8_t byte) {
  const Character& c = kTables.text[byte];
  return {c.bytes, c.size};
}

void AppendBytesAsText(std::string_view bytes, std::string* out) {
  for (const char b : bytes) out->append(ByteAsText(static_cast<uint8_t>(b)));
}

std::optional<std::string> TextAsBytes(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  while (!text.empty()) {
    const Utf8Unit c = NextCharacter(text);
    if (c.code_point >= kAlphabetEnd || kTables.byte[c.code_point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kTables.byte[c.code_point]));
    text.remove_prefix(c.size);
  }
  return bytes;
}

}  // namespace sluice
