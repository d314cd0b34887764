#include "service/cli/serve_command.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <future>
#include <mutex>

#include "service/cli/interrupter.h"
#include "service/cli/server_runtime.h"
#include "service/cli/version.h"

namespace sluice {
namespace {

void SetUpLog(const std::string& level) {
  std::shared_ptr<spdlog::logger> logger = std::make_shared<spdlog::logger>(
      "sluice", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace

int ServeCommand::Run(const FlagSet& flags, const CliIo& io) {
  Interrupter interrupter;  // before any other thread
  SetUpLog(config_.log_level);
  spdlog::info("sluice {}", Version());
  spdlog::info("configuration: {}", flags.ToText());
  absl::StatusOr<std::unique_ptr<ServerRuntime>> runtime = ServerRuntime::Start(config_);
  if (!runtime.ok()) {
    io.err << "sluice: " << runtime.status().message() << std::endl;
    return kExitFailure;
  }
  std::promise<void> stop;
  std::once_flag stopped;
  const auto end = [&stop, &stopped] { std::call_once(stopped, [&stop] { stop.set_value(); }); };
  interrupter.SetHandler(end);
  (*runtime)->OnLostDevice(end);
  io.out << (*runtime)->ReadyLine() << std::endl;
  spdlog::info("{}", (*runtime)->ReadyLine());
  stop.get_future().wait();

  if (const absl::Status lost = (*runtime)->lost_device(); !lost.ok()) {
    interrupter.SetHandler(nullptr);
    (*runtime)->DrainAndStop(absl::Seconds(config_.shutdown_timeout_s));
    io.err << "sluice: " << lost.message() << std::endl;
    return kExitFailure;
  }
  spdlog::info("signal {}: draining, up to {} s", interrupter.signal(), config_.shutdown_timeout_s);
  const bool drained = (*runtime)->DrainAndStop(absl::Seconds(config_.shutdown_timeout_s));
  if (!drained) spdlog::warn("--shutdown-timeout passed: the remaining requests were cut off");
  spdlog::info("stopped");
  return kExitOk;
}

}  // namespace sluice
