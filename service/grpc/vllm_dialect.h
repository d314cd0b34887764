// VllmDialect: a Generate rpc of vllm.grpc.engine, and VllmRequests: those that are live, by the
// names their clients gave them.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "service/grpc/generate_call.h"
#include "service/grpc/generate_dialect.h"
#include "vllm/grpc/engine/vllm_engine.pb.h"

namespace sluice {

// Thread-safe.
class VllmRequests {
 public:
  // Returns ALREADY_EXISTS if a live request has this id.
  absl::Status Add(const std::string& id, const std::weak_ptr<GenerateCall>& call);
  void Remove(const std::string& id);
  // Unknown ids are ignored.
  void Abort(const std::string& id);

 private:
  std::mutex mu_;
  absl::flat_hash_map<std::string, std::weak_ptr<GenerateCall>> calls_;  // guarded by mu_
};

// Thread-compatible; see GenerateDialect.
class VllmDialect final : public GenerateDialect {
 public:
  // `requests` must outlive this.
  explicit VllmDialect(VllmRequests& requests) : requests_(requests) {}
  ~VllmDialect() override;  // if not before: frees the id

  const char* service() const override { return "VllmEngine"; }
  absl::StatusOr<v1::GenerateRequest> Read(const grpc::ByteBuffer& bytes,
                                           const std::weak_ptr<GenerateCall>& call) override;
  std::optional<grpc::ByteBuffer> Write(const v1::GenerateResponse& message,
                                        const SampleFacts& facts) override;

 private:
  // What a sample has given so far.
  struct Total {
    google::protobuf::RepeatedField<uint32_t> ids;
    vllm::grpc::engine::OutputLogProbs logprobs;  // only collected if not streamed
  };

  void FreeId();
  std::optional<grpc::ByteBuffer> WriteChunk(const v1::Output& output, const SampleFacts& facts);
  grpc::ByteBuffer WriteComplete(const v1::Finished& finished);

  VllmRequests& requests_;
  std::string registered_;  // an id in requests_; empty: none
  uint32_t running_ = 0;    // samples
  bool stream_ = false;
  bool logprobs_ = false;
  std::vector<uint32_t> stop_ids_;  // the client's own, without the end of sequence
  std::vector<Total> totals_;       // by index
};

}  // namespace sluice
