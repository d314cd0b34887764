#include "backend/kv/remote_address.h"

#include <cstdint>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

constexpr char kForms[] =
    "want redis://[USER@]HOST[:PORT][/DB], rediss:// (TLS) or unix:/PATH[?db=N]";
constexpr int kMostDb = 1 << 20;

absl::Status Wrong(const std::string& what) { return absl::InvalidArgumentError(what); }

absl::StatusOr<int> Number(const std::string& text, int least, int most, const char* what) {
  int32_t value = 0;
  if (absl::SimpleAtoi(text, &value) && value >= least && value <= most) return value;
  return Wrong(absl::StrCat(what, ": '", text, "', want ", least, " to ", most));
}

// Takes "user@" off the front.
absl::Status TakeUser(std::string* rest, std::string* user) {
  const size_t at = rest->rfind('@');
  if (at == std::string::npos) return absl::OkStatus();
  *user = rest->substr(0, at);
  rest->erase(0, at + 1);
  if (user->find(':') == std::string::npos) return absl::OkStatus();
  return Wrong(
      "a password in a URL can be read by everybody who lists processes; put it into a file of its "
      "own");
}

absl::StatusOr<RemoteAddress> ParseUnix(std::string rest) {
  RemoteAddress address;
  const size_t query = rest.find('?');
  if (query != std::string::npos) {
    const std::string option = rest.substr(query + 1);
    if (!absl::StartsWith(option, "db=")) {
      return Wrong(absl::StrCat("'?", option, "': only ?db=N is known"));
    }
    SLUICE_ASSIGN_OR_RETURN(address.db, Number(option.substr(3), 0, kMostDb, "database"));
    rest.resize(query);
  }
  const size_t slash = rest.find('/');
  std::string front = rest.substr(0, slash == std::string::npos ? rest.size() : slash);
  SLUICE_RETURN_IF_ERROR(TakeUser(&front, &address.user));
  if (slash == std::string::npos || !front.empty()) {
    return Wrong(absl::StrCat("'", rest, "': want the absolute path of a socket; ", kForms));
  }
  address.path = rest.substr(slash);
  constexpr size_t kMostPath = 107;  // sockaddr_un
  if (address.path.size() <= kMostPath) return address;
  return Wrong(absl::StrCat("the path of a socket has ", address.path.size(), " bytes, at most ",
                            kMostPath, " can be used"));
}

absl::StatusOr<RemoteAddress> ParseTcp(std::string rest) {
  RemoteAddress address;
  const size_t slash = rest.find('/', rest.rfind('@') == std::string::npos ? 0 : rest.rfind('@'));
  if (slash != std::string::npos) {
    const std::string db = rest.substr(slash + 1);
    if (!db.empty()) {
      SLUICE_ASSIGN_OR_RETURN(address.db, Number(db, 0, kMostDb, "database"));
    }
    rest.resize(slash);
  }
  SLUICE_RETURN_IF_ERROR(TakeUser(&rest, &address.user));
  std::string port;
  if (absl::StartsWith(rest, "[")) {
    const size_t end = rest.find(']');
    if (end == std::string::npos) return Wrong(absl::StrCat("'", rest, "': ']' is missing"));
    address.host = rest.substr(1, end - 1);
    rest.erase(0, end + 1);
    if (!rest.empty() && rest[0] != ':') return Wrong(absl::StrCat("'", rest, "' behind ']'"));
    if (!rest.empty()) port = rest.substr(1);
  } else {
    const size_t colon = rest.find(':');
    address.host = rest.substr(0, colon);
    if (colon != std::string::npos) port = rest.substr(colon + 1);
    if (colon != std::string::npos && port.empty()) {
      return Wrong(absl::StrCat("'", rest, "': no port behind ':'"));
    }
  }
  if (address.host.empty()) return Wrong(absl::StrCat("names no host; ", kForms));
  if (!port.empty()) {
    SLUICE_ASSIGN_OR_RETURN(address.port, Number(port, 1, 65535, "port"));
  }
  return address;
}

}  // namespace

absl::StatusOr<RemoteAddress> RemoteAddress::Parse(const std::string& url) {
  if (absl::StartsWith(url, "rediss://")) {
    SLUICE_ASSIGN_OR_RETURN(RemoteAddress address, ParseTcp(url.substr(9)));
    address.tls = true;
    return address;
  }
  if (absl::StartsWith(url, "redis://")) return ParseTcp(url.substr(8));
  if (absl::StartsWith(url, "unix://")) return ParseUnix(url.substr(7));
  if (absl::StartsWith(url, "unix:")) return ParseUnix(url.substr(5));
  return Wrong(absl::StrCat("'", url, "': ", kForms));
}

std::string RemoteAddress::ToText() const {
  const std::string who = user.empty() ? "" : absl::StrCat(user, "@");
  if (host.empty()) {
    return absl::StrCat("unix:", who, path, db == 0 ? "" : absl::StrCat("?db=", db));
  }
  const bool v6 = host.find(':') != std::string::npos;
  return absl::StrCat(tls ? "rediss://" : "redis://", who, v6 ? "[" : "", host, v6 ? "]" : "", ":",
                      port, db == 0 ? "" : absl::StrCat("/", db));
}

}  // namespace sluice
