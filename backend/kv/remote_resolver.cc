#include "backend/kv/remote_resolver.h"

#include <netdb.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace sluice {
namespace {

constexpr size_t kMostGivenUp = 8;  // in this process

addrinfo Hints(int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  return hints;
}

// Frees `list`.
std::vector<SocketAddress> Take(addrinfo* list) {
  std::vector<SocketAddress> addresses;
  for (const addrinfo* at = list; at != nullptr; at = at->ai_next) {
    SocketAddress address{};
    if (at->ai_addrlen > sizeof(address.bytes)) continue;
    std::memcpy(&address.bytes, at->ai_addr, at->ai_addrlen);
    address.size = at->ai_addrlen;
    addresses.push_back(address);
  }
  if (list != nullptr) freeaddrinfo(list);
  return addresses;
}

// A look-up under way: the C library writes to it until gai_error() says that it has ended.
struct Lookup {
  Lookup(std::string name, int port)
      : host(std::move(name)), service(std::to_string(port)), hints(Hints(AI_ADDRCONFIG)) {
    request.ar_name = host.c_str();
    request.ar_service = service.c_str();
    request.ar_request = &hints;
  }
  Lookup(const Lookup&) = delete;
  Lookup& operator=(const Lookup&) = delete;

  // EAI_INPROGRESS, 0, or why there is nothing.
  int state() { return gai_error(&request); }
  // Returns state().
  int WaitUntil(absl::Time deadline) {
    const gaicb* const all[] = {&request};
    for (int now = state();; now = state()) {
      const absl::Duration left = deadline - absl::Now();
      if (now != EAI_INPROGRESS || left <= absl::ZeroDuration()) return now;
      const timespec most = absl::ToTimespec(std::min(left, absl::Hours(1)));
      gai_suspend(all, 1, &most);
    }
  }

  const std::string host;
  const std::string service;
  const addrinfo hints;
  gaicb request{};
};

// Look-ups that nobody waits for any more, until they have ended.
class GivenUp {
 public:
  static GivenUp& Instance() {
    static GivenUp* const instance = new GivenUp;  // the C library may write until the very end
    return *instance;
  }
  bool full() {
    std::lock_guard<std::mutex> lock(mu_);
    list_.remove_if([](const std::unique_ptr<Lookup>& lookup) {
      if (lookup->state() == EAI_INPROGRESS) return false;
      Take(lookup->request.ar_result);
      return true;
    });
    return list_.size() >= kMostGivenUp;
  }
  void Add(std::unique_ptr<Lookup> lookup) {
    std::lock_guard<std::mutex> lock(mu_);
    list_.push_back(std::move(lookup));
  }

 private:
  std::mutex mu_;
  std::list<std::unique_ptr<Lookup>> list_;  // guarded by mu_
};

absl::Status NoHost(const std::string& host, int error) {
  return absl::UnavailableError(
      absl::StrCat("no address of the host ", host, " is known: ", gai_strerror(error)));
}

}  // namespace

absl::StatusOr<std::vector<SocketAddress>> ResolveHost(const std::string& host, int port,
                                                       absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  const addrinfo numeric = Hints(AI_NUMERICHOST);
  addrinfo* list = nullptr;
  if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &numeric, &list) == 0) {
    return Take(list);
  }
  if (GivenUp::Instance().full()) {
    return absl::UnavailableError(absl::StrCat(
        "the host ", host, " is not looked up: ", kMostGivenUp, " look-ups before it still run"));
  }
  auto lookup = std::make_unique<Lookup>(host, port);
  gaicb* all[] = {&lookup->request};
  if (const int error = getaddrinfo_a(GAI_NOWAIT, all, 1, nullptr); error != 0) {
    return NoHost(host, error);
  }
  int error = lookup->WaitUntil(deadline);
  if (error == EAI_INPROGRESS && gai_cancel(&lookup->request) == EAI_ALLDONE) {
    error = lookup->state();  // just in time
  }
  if (error == EAI_INPROGRESS || error == EAI_CANCELED) {
    if (error == EAI_INPROGRESS && lookup->state() == EAI_INPROGRESS) {
      GivenUp::Instance().Add(std::move(lookup));
    }
    return absl::DeadlineExceededError(absl::StrCat("no name server says within ",
                                                    absl::FormatDuration(timeout), " where ", host,
                                                    " is; its address could stand in the URL"));
  }
  if (error != 0) return NoHost(host, error);
  std::vector<SocketAddress> addresses = Take(std::exchange(lookup->request.ar_result, nullptr));
  if (addresses.empty()) return NoHost(host, EAI_NONAME);
  return addresses;
}

}  // namespace sluice
