#include "service/cli/generate_command.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "service/cli/client_call.h"
#include "service/cli/prompt_file.h"

namespace sluice {
namespace {

constexpr int64_t kMaxUint32 = std::numeric_limits<uint32_t>::max();

// One line about what happened, for people.
std::string Summary(const v1::Finished& end) {
  const v1::Usage& u = end.usage();
  const v1::Timing& t = end.timing();
  const double decode_s = t.total_s() - t.ttft_s();
  std::string text = absl::StrCat(
      u.prompt_tokens(), " prompt tokens (", u.cached_device_tokens(), " device, ",
      u.cached_host_tokens(), " host, ", u.computed_tokens(), " computed), ", u.output_tokens(),
      " output tokens, ", FinishReasonName(end.finish_reason()), "; first token after ",
      absl::FormatDuration(absl::Milliseconds(static_cast<int64_t>(t.ttft_s() * 1000))));
  if (decode_s > 0 && u.output_tokens() > 1) {
    absl::StrAppend(&text, ", then ", static_cast<int64_t>((u.output_tokens() - 1) / decode_s),
                    " tokens/s");
  }
  return text;
}

void PrintSamples(const CallResult& result, std::ostream& out) {
  for (size_t i = 0; i < result.samples.size(); ++i) {
    out << "--- sample " << i << " ---\n" << result.samples[i].text << '\n';
  }
  out << std::flush;
}

}  // namespace

void GenerateCommand::DefineFlags(FlagSet& flags) {
  GenerateOptions& o = options_;
  o.connection.Define(flags);
  flags.Group("Prompt (exactly one)");
  Flag prompt;
  prompt.name = "prompt";
  prompt.value_name = "TEXT";
  prompt.help = "the prompt itself";
  prompt.set = [&o](const std::vector<std::string>& values) {
    o.prompt = values.back();
    return absl::OkStatus();
  };
  prompt.show = [&o] { return o.prompt.value_or(""); };
  flags.Add(std::move(prompt));
  flags.String("prompt-file", &o.prompt_file, "FILE", "read the prompt from here; - is stdin");
  flags.Ids("prompt-ids", &o.prompt_ids, "the prompt as token ids, used as they are");
  flags.Group("Output");
  flags.Integer("max-tokens", &o.max_tokens, 1, kMaxUint32, "N",
                "most output tokens (default: until the context is full)");
  flags.Integer("min-tokens", &o.min_tokens, 0, kMaxUint32, "N", "do not stop before this many");
  flags.Strings("stop", &o.stop, "TEXT", "end before this text appears");
  flags.Ids("stop-token-ids", &o.stop_token_ids, "end when one of these tokens is drawn");
  flags.Bool("ignore-eos", &o.ignore_eos, "do not stop at the model's end-of-sequence tokens");
  flags.Bool("include-stop", &o.include_stop, "keep the stop text in the output");
  flags.Integer("n", &o.n, 1, 16, "N", "independent samples of the prompt");
  flags.Integer(
      "logprobs", &o.logprobs, 0, 20, "K",
      "report log-probabilities (in --json): of the chosen token, and of the K likeliest");
  flags.Bool("json", &o.json, "print one JSON object instead of the text");
  o.sampling.Define(flags);
  o.scheduling.Define(flags);
  flags.String("request-id", &o.request_id, "ID", "name in logs and traces (default: made up)");
  flags.Number("timeout", &o.timeout_s, 0, 1e6, "SECONDS", "give up after this long; 0 = never");
}

absl::Status GenerateCommand::Validate() const {
  const int given = (options_.prompt.has_value() ? 1 : 0) + (options_.prompt_file.empty() ? 0 : 1) +
                    (options_.prompt_ids.empty() ? 0 : 1);
  if (given == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      given == 0 ? "no prompt" : "more than one prompt",
      "; give exactly one of --prompt TEXT, --prompt-file FILE, --prompt-ids ID,ID,..."));
}

absl::StatusOr<v1::GenerateRequest> BuildRequest(const GenerateOptions& o, std::istream& in) {
  v1::GenerateRequest request;
  request.set_request_id(o.request_id);
  if (!o.prompt_ids.empty()) {
    request.mutable_token_ids()->mutable_ids()->Assign(o.prompt_ids.begin(), o.prompt_ids.end());
  } else if (o.prompt.has_value()) {
    request.set_text(*o.prompt);
  } else {
    absl::StatusOr<std::string> text = ReadPrompt(o.prompt_file, in);
    if (!text.ok()) return text.status();
    request.set_text(*std::move(text));
  }
  o.sampling.Fill(request.mutable_sampling());
  o.scheduling.Fill(request.mutable_scheduling());
  v1::Stopping* stopping = request.mutable_stopping();
  if (o.max_tokens.has_value()) stopping->set_max_tokens(static_cast<uint32_t>(*o.max_tokens));
  stopping->set_min_tokens(static_cast<uint32_t>(o.min_tokens));
  for (const std::string& stop : o.stop) stopping->add_stop(stop);
  stopping->mutable_stop_token_ids()->Assign(o.stop_token_ids.begin(), o.stop_token_ids.end());
  stopping->set_ignore_eos(o.ignore_eos);
  stopping->set_include_stop(o.include_stop);
  request.set_n(static_cast<uint32_t>(o.n));
  if (o.logprobs.has_value()) request.set_logprobs(static_cast<uint32_t>(*o.logprobs));
  return request;
}

int GenerateCommand::Generate(Client& client, const v1::GenerateRequest& request,
                              Interrupter& interrupter, const CliIo& io) {
  grpc::ClientContext context;
  if (options_.timeout_s > 0) {
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(options_.timeout_s)));
  }
  interrupter.SetHandler([&context] { context.TryCancel(); });
  const bool stream = !options_.json && options_.n == 1;
  const CallResult result =
      RunGenerate(client.inference(), request, context, [&](const v1::Output& output) {
        if (stream) io.out << output.text() << std::flush;
      });
  interrupter.SetHandler(nullptr);
  if (stream) io.out << std::endl;
  if (interrupter.signal() != 0) {
    io.err << "sluice: interrupted; the request was cancelled" << std::endl;
    return 128 + interrupter.signal();
  }
  if (!result.ok()) {
    io.err << "sluice: " << DescribeError(result.status) << std::endl;
    return kExitFailure;
  }
  if (options_.json) {
    io.out << ResultJson(result).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
           << std::endl;
    return kExitOk;
  }
  if (options_.n > 1) PrintSamples(result, io.out);
  if (io.err_is_terminal && !result.samples.empty() && result.samples[0].finished.has_value()) {
    io.err << "[" << Summary(*result.samples[0].finished) << "]" << std::endl;
  }
  return kExitOk;
}

int GenerateCommand::Run(const FlagSet&, const CliIo& io) {
  absl::StatusOr<v1::GenerateRequest> request = BuildRequest(options_, io.in);
  if (!request.ok()) {
    io.err << "sluice: " << request.status().message() << std::endl;
    return kExitUsage;
  }
  Interrupter interrupter;
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(options_.connection);
  if (!client.ok()) {
    io.err << "sluice: " << client.status().message() << std::endl;
    return ExitCodeOf(client.status());
  }
  return Generate(**client, *request, interrupter, io);
}

}  // namespace sluice
