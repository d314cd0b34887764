// An HTTP client that is a socket: it sends any bytes, in any pieces, and can stop reading or leave
// at any moment.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "scheduler/base/check.h"

namespace sluice::testing {

struct RawResponse {
  int status = 0;                              // 0: the connection ended before there was an answer
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  bool complete = false;  // the body ended as the headers promised
};

class RawClient {
 public:
  explicit RawClient(int port, int receive_buffer = 0) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval patience{30, 0};  // a test that hangs fails
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (receive_buffer > 0) {
      setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    SLUICE_CHECK(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  ~RawClient() { Close(); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  void CloseSending() { shutdown(fd_, SHUT_WR); }

  // False if the other side is gone.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  // The other side sends something, or is gone, within `patience`.
  bool EndsWithin(absl::Duration patience) {
    pollfd wait{fd_, POLLIN, 0};
    return poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(patience))) > 0;
  }

  // Bytes that came; empty at the end of the connection.
  std::string Receive() {
    char bytes[65536];
    const ssize_t got = recv(fd_, bytes, sizeof bytes, 0);
    return got > 0 ? std::string(bytes, static_cast<size_t>(got)) : "";
  }

  // Everything up to the end of the connection.
  std::string ReceiveAll() {
    std::string all = std::exchange(buffer_, {});
    for (std::string piece = Receive(); !piece.empty(); piece = Receive()) all += piece;
    return all;
  }

  // Bytes up to and with `mark`; nothing if the connection ends before.
  std::optional<std::string> ReadUntil(std::string_view mark) {
    size_t at = buffer_.find(mark);
    while (at == std::string::npos) {
      const std::string piece = Receive();
      if (piece.empty()) return std::nullopt;
      buffer_ += piece;
      at = buffer_.find(mark);
    }
    std::string text = buffer_.substr(0, at + mark.size());
    buffer_.erase(0, at + mark.size());
    return text;
  }

  RawResponse ReadResponse() {
    RawResponse response = ReadHead();
    if (response.status == 0 || response.status == 100) return response;
    if (response.headers["transfer-encoding"] == "chunked") {
      ReadChunks(&response);
    } else if (response.headers.count("content-length") > 0) {
      const auto size = static_cast<size_t>(std::atoll(response.headers["content-length"].c_str()));
      response.complete = ReadBytes(size, &response.body);
    } else {
      response.body = ReceiveAll();
      response.complete = true;
    }
    return response;
  }

  // The status line and headers only.
  RawResponse ReadHead() {
    RawResponse response;
    const std::optional<std::string> status = ReadUntil("\r\n");
    if (!status.has_value()) return response;
    response.status = std::atoi(status->c_str() + 9);
    for (;;) {
      const std::optional<std::string> line = ReadUntil("\r\n");
      if (!line.has_value() || *line == "\r\n") return response;
      const size_t colon = line->find(": ");
      if (colon == std::string::npos) continue;
      response.headers[absl::AsciiStrToLower(line->substr(0, colon))] =
          line->substr(colon + 2, line->size() - colon - 4);
    }
  }

  RawResponse Get(const std::string& path) {
    Send(absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: test\r\n\r\n"));
    return ReadResponse();
  }

  // A POST of JSON, as text.
  static std::string Request(const std::string& path, const std::string& body,
                             const std::string& headers = "") {
    return absl::StrCat("POST ", path,
                        " HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n", headers,
                        "Content-Length: ", body.size(), "\r\n\r\n", body);
  }
  RawResponse Post(const std::string& path, const std::string& body,
                   const std::string& headers = "") {
    Send(Request(path, body, headers));
    return ReadResponse();
  }

 private:
  bool ReadBytes(size_t size, std::string* out) {
    while (buffer_.size() < size) {
      const std::string piece = Receive();
      if (piece.empty()) return false;
      buffer_ += piece;
    }
    *out += buffer_.substr(0, size);
    buffer_.erase(0, size);
    return true;
  }

  void ReadChunks(RawResponse* response) {
    for (;;) {
      const std::optional<std::string> line = ReadUntil("\r\n");
      if (!line.has_value()) return;
      const auto size = static_cast<size_t>(std::strtoull(line->c_str(), nullptr, 16));
      std::string end;
      if (!ReadBytes(size, &response->body) || !ReadBytes(2, &end) || end != "\r\n") return;
      if (size == 0) {
        response->complete = true;
        return;
      }
    }
  }

  int fd_;
  std::string buffer_;  // received, not yet read
};

}  // namespace sluice::testing
