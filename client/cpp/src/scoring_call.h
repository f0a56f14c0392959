// One call of ScoreBatch: a thin layer over gRPC's reactor.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include "connection.h"
#include "rm_grpc/v1/reward_service.grpc.pb.h"

namespace rm_grpc {

/// A call in progress. Start it, and keep it until its owner was told that it is done.
class ScoringCall final : private grpc::ClientBidiReactor<v1::ScoreBatchRequest, v1::ScoreBatchResponse> {
  public:
    /// Is told, on threads of gRPC, what happens.
    class Owner {
      public:
        virtual void on_response(const v1::ScoreBatchResponse& response) = 0;
        /// The message that was written last is out of the way, or the call is beyond writing.
        virtual void on_written(bool ok) = 0;
        /// No further response comes.
        virtual void on_end() = 0;
        /// The last of all, after `release`.
        virtual void on_done(const grpc::Status& status) = 0;

      protected:
        ~Owner() = default;
    };

    ScoringCall(const Connection& connection, Owner& owner);

    void start();
    /// Writes one message; the next may be written once the owner was told of this one.
    void write(v1::ScoreBatchRequest message);
    void half_close();
    /// Lets the call end: nothing is written any more.
    void release();
    /// Ends the call at once, from any thread.
    void cancel();

  private:
    void OnReadDone(bool ok) override;
    void OnWriteDone(bool ok) override { owner_.on_written(ok); }
    void OnDone(const grpc::Status& status) override { owner_.on_done(status); }

    Owner& owner_;
    grpc::ClientContext context_;
    v1::ScoreBatchRequest written_;
    v1::ScoreBatchResponse response_;
};

}  // namespace rm_grpc
