#include "service/cli/top_command.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "scheduler/base/status_macros.h"
#include "service/cli/top_frame.h"

namespace sluice {
namespace {

constexpr double kOnceSeconds = 0.5;
// How soon a key or a signal is noticed.
constexpr absl::Duration kSlice = absl::Milliseconds(50);

// Puts the terminal into the state for a full-screen picture, and back.
class Screen {
 public:
  explicit Screen(std::ostream& out) : out_(out) {
    if (tcgetattr(STDIN_FILENO, &before_) == 0) {
      termios raw = before_;
      raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
      keys_ = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
    }
    out_ << "\x1b[?1049h\x1b[?25l" << std::flush;  // alternate screen, no cursor
  }
  ~Screen() {
    out_ << "\x1b[?25h\x1b[?1049l" << std::flush;
    if (keys_) tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  static TopSize Size() {
    winsize size = {};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return {};
    return {std::max<int>(20, size.ws_col), std::max<int>(4, size.ws_row)};
  }

  // One write per picture, each line cleared behind its end: no flicker.
  void Draw(const std::vector<std::string>& lines) {
    std::string text = "\x1b[H";
    for (size_t i = 0; i < lines.size(); ++i) {
      const char* style = i == 0 ? "\x1b[7m" : i == 1 ? "\x1b[1m" : "";
      absl::StrAppend(&text, style, lines[i], "\x1b[0m\x1b[K", i + 1 < lines.size() ? "\r\n" : "");
    }
    out_ << text << "\x1b[J" << std::flush;
  }

  // Whether q was pressed within `wait`.
  bool Quit(absl::Duration wait) const {
    if (!keys_) {
      absl::SleepFor(wait);
      return false;
    }
    pollfd input = {STDIN_FILENO, POLLIN, 0};
    if (poll(&input, 1, static_cast<int>(absl::ToInt64Milliseconds(wait))) <= 0) return false;
    char key = 0;
    if (read(STDIN_FILENO, &key, 1) != 1) return true;  // the terminal is gone
    return key == 'q' || key == 'Q';
  }

 private:
  std::ostream& out_;
  termios before_ = {};
  bool keys_ = false;
};

absl::StatusOr<v1::Activity> GetActivity(Client& client) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
  v1::Activity activity;
  const grpc::Status status =
      client.control().GetActivity(&context, v1::GetActivityRequest(), &activity);
  if (status.ok()) return activity;
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), DescribeError(status));
}

}  // namespace

void TopCommand::DefineFlags(FlagSet& flags) {
  options_.connection.Define(flags);
  flags.Group("Picture");
  flags.Number("interval", &options_.interval_s, 0.1, 3600, "SECONDS", "time between pictures");
  flags.Bool("once", &options_.once, "show one picture and exit");
}

absl::Status TopCommand::Show(Client& client, Interrupter& interrupter, const CliIo& io) const {
  std::atomic<bool> stop{false};
  interrupter.SetHandler([&stop] { stop = true; });
  SLUICE_ASSIGN_OR_RETURN(v1::ServerInfo info, client.GetServerInfo());
  SLUICE_ASSIGN_OR_RETURN(v1::Activity before, GetActivity(client));
  const absl::Duration started = MonotonicNow() - absl::Seconds(info.uptime_s());
  std::optional<Screen> screen;
  if (io.out_is_terminal && !options_.once) screen.emplace(io.out);
  // The first picture comes soon; the others cover an interval each.
  double interval = std::min(options_.interval_s, kOnceSeconds);
  while (!stop) {
    const absl::Duration next = MonotonicNow() + absl::Seconds(interval);
    interval = options_.interval_s;
    while (!stop && MonotonicNow() < next) {
      const absl::Duration wait = std::min(kSlice, next - MonotonicNow());
      if (!screen.has_value()) {
        absl::SleepFor(wait);
      } else if (screen->Quit(wait)) {
        return absl::OkStatus();
      }
    }
    if (stop) break;
    SLUICE_ASSIGN_OR_RETURN(const v1::Activity now, GetActivity(client));
    info.set_uptime_s(absl::ToDoubleSeconds(MonotonicNow() - started));
    const TopSize size = screen.has_value() ? Screen::Size() : TopSize();
    const std::vector<std::string> frame =
        MakeTopFrame(info, client.endpoint(), now, MakeTopRates(before, now), size);
    before = now;
    if (screen.has_value()) {
      screen->Draw(frame);
      continue;
    }
    for (const std::string& line : frame) io.out << line << "\n";
    io.out << (options_.once ? "" : "\n") << std::flush;
    if (options_.once) break;
  }
  return absl::OkStatus();
}

int TopCommand::Run(const FlagSet&, const CliIo& io) {
  Interrupter interrupter;
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(options_.connection);
  const absl::Status shown = client.ok() ? Show(**client, interrupter, io) : client.status();
  interrupter.SetHandler(nullptr);
  if (!shown.ok()) io.err << "sluice: " << shown.message() << std::endl;
  return ExitCodeOf(shown);
}

}  // namespace sluice
