// RemoteAddress: where a Redis-protocol store is, from a URL:
//
//   redis://[USER@]HOST[:PORT][/DB]      port 6379 and database 0 unless given; HOST may be [::1]
//   rediss://[USER@]HOST[:PORT][/DB]     the same with TLS
//   unix:[USER@]/PATH/OF/SOCKET[?db=N]
//
// A password never stands in a URL: whoever lists processes would read it.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace sluice {

struct RemoteAddress {
  std::string host;  // empty: a unix socket
  int port = 6379;
  std::string path;  // of the unix socket
  std::string user;  // empty: the default user
  int db = 0;
  bool tls = false;

  // As it was given, for logs and messages.
  std::string ToText() const;

  // Returns INVALID_ARGUMENT naming the part that is wrong.
  static absl::StatusOr<RemoteAddress> Parse(const std::string& url);
};

}  // namespace sluice
