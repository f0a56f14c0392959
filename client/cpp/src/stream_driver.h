// A stream at work: connections one after another around a `Session`, and a clock.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <thread>

#include "clock.h"
#include "connection.h"
#include "rm_grpc_client/error.h"
#include "rm_grpc_client/item.h"
#include "rm_grpc_client/result.h"
#include "scoring_call.h"
#include "session.h"

namespace rm_grpc {

/// The inside of a `Stream`. One thread of its own connects and keeps the time; what can be sent is sent from whichever
/// thread made it possible.
class StreamDriver final : private ScoringCall::Owner {
  public:
    StreamDriver(std::shared_ptr<const Connection> connection, SessionSettings settings);
    StreamDriver(const StreamDriver&) = delete;
    StreamDriver& operator=(const StreamDriver&) = delete;
    ~StreamDriver();

    std::uint64_t send(Item item);
    /// Sends the item, and leaves it as it is where `send` would wait.
    bool try_send(Item& item);
    void finish();
    std::optional<Result> next();
    void cancel(std::uint64_t index);
    void cancel(std::string_view id);
    void close();

  private:
    using Lock = std::unique_lock<std::mutex>;

    // With the mutex held.
    bool has_room() const { return session_.owed() + session_.held() + results_.size() < session_.window(); }
    bool is_over() const { return stopping_ || failure_.has_value() || session_.is_finished(); }
    void check_open() const;
    std::uint64_t take(Item&& item);
    void pump();
    void deliver();
    void fail(Error error);
    void stop();

    // On the thread of its own.
    void run();
    std::optional<Error> run_call(Lock& lock);
    void sleep(Lock& lock, TimePoint limit);

    // On threads of gRPC.
    void on_response(const v1::ScoreBatchResponse& response) override;
    void on_written(bool ok) override;
    void on_end() override;
    void on_done(const grpc::Status& status) override;

    const std::shared_ptr<const Connection> connection_;
    const Seconds reconnect_;

    std::mutex mutex_;  // over all that follows
    Session session_;
    std::deque<Result> results_;
    std::optional<Error> failure_;
    bool stopping_ = false;
    bool ended_ = false;

    ScoringCall* call_ = nullptr;  // while messages may be written
    bool writing_ = false;
    bool half_closed_ = false;
    bool call_ended_ = false;
    std::optional<grpc::Status> call_status_;
    std::optional<TimePoint> unanswered_since_;  // since when no server has said anything, though one should
    TimePoint asleep_until_ = TimePoint::min();

    std::condition_variable changed_;  // for the thread of its own
    std::condition_variable ready_;    // for who waits in next
    std::condition_variable room_;     // for who waits in send
    std::thread thread_;               // the last member: it uses the others
};

}  // namespace rm_grpc
