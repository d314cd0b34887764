#include "service/cli/trace_command.h"

#include <fstream>

#include "absl/strings/str_cat.h"

namespace sluice {

void TraceCommand::DefineFlags(FlagSet& flags) {
  options_.connection.Define(flags);
  flags.Group("Trace");
  flags.Number("seconds", &options_.seconds, 0, 1e6, "SECONDS",
               "how far back; 0 = all the server keeps (serve --trace-events)");
  flags.String("output", &options_.output, "FILE", "where to write it; - = standard output")
      .aliases = {"out"};
}

absl::Status TraceCommand::Save(Client& client, Interrupter& interrupter, const CliIo& io) const {
  grpc::ClientContext context;
  interrupter.SetHandler([&context] { context.TryCancel(); });
  v1::TraceRequest request;
  request.set_seconds(options_.seconds);
  const auto stream = client.control().Trace(&context, request);
  v1::TraceChunk chunk;
  // Nothing is created, and nothing overwritten, before the server has begun to answer.
  bool more = stream->Read(&chunk);
  std::ofstream file;
  const bool to_file = options_.output != "-";
  if (more && to_file) file.open(options_.output, std::ios::binary | std::ios::trunc);
  std::ostream& out = to_file ? static_cast<std::ostream&>(file) : io.out;
  int64_t bytes = 0;
  for (; more; more = stream->Read(&chunk)) {
    out << chunk.json();
    bytes += static_cast<int64_t>(chunk.json().size());
  }
  const grpc::Status status = stream->Finish();
  interrupter.SetHandler(nullptr);
  if (!status.ok()) {
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()), DescribeError(status));
  }
  out.flush();
  if (!out.good()) {
    return absl::UnavailableError(absl::StrCat("cannot write the trace to ", options_.output));
  }
  if (to_file) {
    io.err << "wrote " << options_.output << ", " << bytes
           << " bytes; open it in https://ui.perfetto.dev" << std::endl;
  }
  return absl::OkStatus();
}

int TraceCommand::Run(const FlagSet&, const CliIo& io) {
  Interrupter interrupter;
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(options_.connection);
  const absl::Status saved = client.ok() ? Save(**client, interrupter, io) : client.status();
  if (interrupter.signal() != 0) return 128 + interrupter.signal();
  if (!saved.ok()) io.err << "sluice: " << saved.message() << std::endl;
  return ExitCodeOf(saved);
}

}  // namespace sluice
