#include "service/cli/metrics_client.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace sluice {
namespace {

constexpr timeval kSocketTimeout = {5, 0};

// A connected socket, or -1.
int Connect(const std::string& host, int port) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &list) != 0) return -1;
  int fd = -1;
  for (const addrinfo* a = list; a != nullptr && fd < 0; a = a->ai_next) {
    fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    if (fd < 0) continue;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kSocketTimeout, sizeof(kSocketTimeout));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &kSocketTimeout, sizeof(kSocketTimeout));
    if (connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
      close(fd);
      fd = -1;
    }
  }
  freeaddrinfo(list);
  return fd;
}

// Everything the peer sends after `request`, until it closes.
std::string Exchange(int fd, const std::string& request) {
  std::string response;
  if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    return response;
  }
  std::array<char, 16384> buffer;
  for (ssize_t n; (n = recv(fd, buffer.data(), buffer.size(), 0)) > 0;) {
    response.append(buffer.data(), static_cast<size_t>(n));
  }
  return response;
}

}  // namespace

MetricValues ParseMetrics(const std::string& text) {
  MetricValues values;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (line.empty() || line[0] == '#') continue;
    const size_t labels_end = line.rfind('}');
    const size_t blank = line.find(' ', labels_end == absl::string_view::npos ? 0 : labels_end);
    double value = 0;
    if (blank == absl::string_view::npos || !absl::SimpleAtod(line.substr(blank + 1), &value)) {
      continue;
    }
    values[std::string(line.substr(0, blank))] = value;
  }
  return values;
}

absl::StatusOr<MetricValues> ScrapeMetrics(const std::string& host, int port) {
  const std::string address = absl::StrCat("http://", host, ":", port, "/metrics");
  const int fd = Connect(host, port);
  if (fd < 0) return absl::UnavailableError(absl::StrCat(address, ": cannot connect"));
  // HTTP/1.0: the answer ends when the connection does.
  const std::string response =
      Exchange(fd, absl::StrCat("GET /metrics HTTP/1.0\r\nHost: ", host, "\r\n\r\n"));
  close(fd);
  const size_t body = response.find("\r\n\r\n");
  if (body == std::string::npos || !absl::StrContains(response.substr(0, 16), " 200")) {
    return absl::UnavailableError(absl::StrCat(address, ": no usable answer"));
  }
  return ParseMetrics(response.substr(body + 4));
}

double SumMetric(const MetricValues& values, const std::string& name, const std::string& label) {
  double sum = 0;
  for (const auto& [series, value] : values) {
    const bool same = absl::StartsWith(series, name) &&
                      (series.size() == name.size() || series[name.size()] == '{');
    if (same && absl::StrContains(series, label)) sum += value;
  }
  return sum;
}

}  // namespace sluice
