// xds.service.orca.v3.OpenRcaService: load reports outside of calls, for clients that balance
// without scraping metrics.
//
// Thread-safe.
#pragma once

#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "service/grpc/load_monitor.h"
#include "service/grpc/open_streams.h"
#include "service/grpc/service_context.h"
#include "xds/service/orca/v3/orca.grpc.pb.h"

namespace sluice {

using RawOrcaService =
    xds::service::orca::v3::OpenRcaService::WithRawCallbackMethod_StreamCoreMetrics<
        xds::service::orca::v3::OpenRcaService::Service>;

class OrcaService final : public RawOrcaService {
 public:
  // Both must outlive this; this must outlive its calls.
  OrcaService(const ServiceContext& context, LoadMonitor& monitor);
  ~OrcaService() override;  // stops the monitor

  // Ends all streams with UNAVAILABLE, present and future.
  void Shutdown();

  // One report at once, then one per requested interval: at least 0.1 s; 10 s if none is given.
  grpc::ServerWriteReactor<grpc::ByteBuffer>* StreamCoreMetrics(
      grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request) override;

 private:
  class Stream;

  // Sends to whom it is time; from the monitor.
  void Tick();

  const ServiceContext& context_;
  LoadMonitor& monitor_;

  OpenStreams<Stream> streams_;
};

}  // namespace sluice
