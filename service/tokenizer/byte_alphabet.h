// The byte-level alphabet of GPT-2: every byte is shown as one printable character, so that a
// vocabulary of byte strings can be written as JSON text. Printable bytes stand for themselves;
// the other 68 are U+0100, U+0101 ... in order ("\n" is U+010A, " " is U+0120).
//
// Pure, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

// The character of one byte, as UTF-8. Valid forever.
std::string_view ByteAsText(uint8_t byte);

// `bytes` with each byte as its character.
void AppendBytesAsText(std::string_view bytes, std::string* out);

// The bytes that `text` stands for, or nothing if a character is not of the alphabet.
// REQUIRES: `text` is valid UTF-8.
std::optional<std::string> TextAsBytes(std::string_view text);

}  // namespace sluice
