#include "service/grpc/vllm_service.h"

#include <utility>

#include "absl/status/status.h"
#include "scheduler/base/status_macros.h"
#include "service/grpc/bytes_stream.h"
#include "service/grpc/tokenizer_zip.h"
#include "service/grpc/unary.h"
#include "service/grpc/vllm_facts.h"

namespace sluice {
namespace {

namespace pb = vllm::grpc::engine;

constexpr char kService[] = "VllmEngine";
constexpr size_t kTokenizerPiece = 64 << 10;  // what gateways expect

}  // namespace

VllmService::VllmService(GenerateShared& shared, const HealthService& health)
    : context_(shared.context()),
      shared_(shared),
      health_(health),
      start_(shared.context().clock()) {}

grpc::ServerWriteReactor<grpc::ByteBuffer>* VllmService::Generate(grpc::CallbackServerContext* rpc,
                                                                  const grpc::ByteBuffer* request) {
  return GenerateCall::Start(rpc, *request, shared_, std::make_unique<VllmDialect>(requests_));
}

grpc::ServerUnaryReactor* VllmService::Embed(grpc::CallbackServerContext* rpc,
                                             const grpc::ByteBuffer* request,
                                             grpc::ByteBuffer* response) {
  return AnswerUnary<pb::EmbedRequest, pb::EmbedResponse>(
      context_, rpc, kService, "Embed", request, response,
      [](const pb::EmbedRequest&, pb::EmbedResponse*) {
        return absl::UnimplementedError("this server generates text; it gives no embeddings");
      });
}

grpc::ServerUnaryReactor* VllmService::HealthCheck(grpc::CallbackServerContext* rpc,
                                                   const grpc::ByteBuffer* request,
                                                   grpc::ByteBuffer* response) {
  return AnswerUnary<pb::HealthCheckRequest, pb::HealthCheckResponse>(
      context_, rpc, kService, "HealthCheck", request, response,
      [this](const pb::HealthCheckRequest&, pb::HealthCheckResponse* out) {
        out->set_healthy(health_.ready());
        out->set_message(health_.ready() ? "serving" : "draining");
        return absl::OkStatus();
      },
      Need::kNothing);
}

grpc::ServerUnaryReactor* VllmService::Abort(grpc::CallbackServerContext* rpc,
                                             const grpc::ByteBuffer* request,
                                             grpc::ByteBuffer* response) {
  return AnswerUnary<pb::AbortRequest, pb::AbortResponse>(
      context_, rpc, kService, "Abort", request, response,
      [this](const pb::AbortRequest& in, pb::AbortResponse*) {
        for (const std::string& id : in.request_ids()) requests_.Abort(id);
        return absl::OkStatus();
      },
      Need::kAdmin);
}

grpc::ServerUnaryReactor* VllmService::GetModelInfo(grpc::CallbackServerContext* rpc,
                                                    const grpc::ByteBuffer* request,
                                                    grpc::ByteBuffer* response) {
  return AnswerUnary<pb::GetModelInfoRequest, pb::GetModelInfoResponse>(
      context_, rpc, kService, "GetModelInfo", request, response,
      [this](const pb::GetModelInfoRequest&, pb::GetModelInfoResponse* out) {
        *out = MakeVllmModelInfo(context_);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* VllmService::GetServerInfo(grpc::CallbackServerContext* rpc,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  return AnswerUnary<pb::GetServerInfoRequest, pb::GetServerInfoResponse>(
      context_, rpc, kService, "GetServerInfo", request, response,
      [this](const pb::GetServerInfoRequest&, pb::GetServerInfoResponse* out) {
        const absl::Time now = context_.clock();
        *out = MakeVllmServerInfo(context_.engine.loop().load().scheduler, now - start_, now);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* VllmService::GetLoads(grpc::CallbackServerContext* rpc,
                                                const grpc::ByteBuffer* request,
                                                grpc::ByteBuffer* response) {
  return AnswerUnary<pb::GetLoadsRequest, pb::GetLoadsResponse>(
      context_, rpc, kService, "GetLoads", request, response,
      [this](const pb::GetLoadsRequest& in, pb::GetLoadsResponse* out) {
        *out = MakeVllmLoads(in, shared_.monitor().Now(), context_.info, context_.clock());
        return absl::OkStatus();
      });
}

absl::StatusOr<std::shared_ptr<const std::string>> VllmService::Tokenizer() {
  std::lock_guard<std::mutex> lock(mu_);
  if (zip_ != nullptr) return zip_;
  if (!context_.tokenizer.has_text()) {
    return absl::FailedPreconditionError(
        "this model has no tokenizer.json; tokenize with that of the model it was made from");
  }
  SLUICE_ASSIGN_OR_RETURN(const std::vector<NamedFile> files,
                          ReadTokenizerFiles(context_.info.model_path()));
  zip_ = std::make_shared<const std::string>(MakeStoredZip(files));
  zip_sha256_ = Sha256Hex(*zip_);
  return zip_;
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* VllmService::GetTokenizer(
    grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* bytes) {
  smg::grpc::common::GetTokenizerRequest request;
  absl::Status parsed = CheckCaller(context_, *rpc, "GetTokenizer", Need::kToken);
  if (parsed.ok()) parsed = ParseMessage(*bytes, &request);
  return BytesStream::Start(parsed.ok() ? Tokenizer() : parsed, kTokenizerPiece,
                            [this](const std::string& archive, size_t begin, size_t size) {
                              smg::grpc::common::GetTokenizerChunk chunk;
                              chunk.set_data(archive.substr(begin, size));
                              if (begin + size == archive.size()) {
                                std::lock_guard<std::mutex> lock(mu_);
                                chunk.set_sha256(zip_sha256_);
                              }
                              return SerializeMessage(chunk);
                            });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* VllmService::SubscribeKvEvents(
    grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request) {
  // The events hold all tenants' prompts.
  const absl::Status allowed = CheckCaller(context_, *rpc, "SubscribeKvEvents", Need::kAdmin);
  if (!allowed.ok()) return RefuseStream(allowed);
  return KvEventStream::Start(*request, context_, shared_.pump(), streams_);
}

}  // namespace sluice
