// What one stream still owes its caller. Pure: no I/O, and the caller brings the clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "clock.h"
#include "rm_grpc/v1/reward_service.pb.h"
#include "rm_grpc_client/item.h"
#include "rm_grpc_client/options.h"
#include "rm_grpc_client/result.h"

namespace rm_grpc {

/// Largest message that is sent and read.
inline constexpr std::int64_t kMaxMessageBytes = 16 * 1024 * 1024;

struct SessionSettings {
    std::string model = {};
    ScoreOptions options = {};
    Ordering ordering = Ordering::completion;
    std::optional<Seconds> timeout = {};
    Seconds reconnect = Seconds(60);
    int attempts = 20;
};

/// The items of one stream, over any number of connections. It says what to send next; results are final when they come out
/// of `take_settled`, which is to be asked after every other call.
class Session {
  public:
    explicit Session(SessionSettings settings) : settings_(std::move(settings)) {}

    // From the caller.

    /// Takes an item and returns its position. One that cannot be sent is settled at once.
    std::uint64_t take(Item item, TimePoint now);
    /// Takes an item back: settled at once where no server has it, else by the server.
    void withdraw(std::uint64_t index);
    /// Takes back all items of that id.
    void withdraw(std::string_view id);
    /// No more items come.
    void end_source() noexcept { source_ended_ = true; }

    // To the server.

    /// The first message of a connection.
    v1::ScoreBatchRequest opening() const;
    /// What may be sent now, if anything: ids of items that are taken back, or items.
    std::optional<v1::ScoreBatchRequest> next_message(TimePoint now);

    // From the server.

    void receive(const v1::ScoreBatchResponse& response, TimePoint now);
    /// The connection has ended: what was in flight on it is sent again on the next.
    void lose_connection();

    // From the clock.

    /// Does what time alone does: retries become due, and items expire that the server should have answered.
    void advance(TimePoint now);
    /// When `advance` will have something to do.
    std::optional<TimePoint> next_wakeup() const;

    // To the caller.

    std::vector<Result> take_settled() { return std::exchange(settled_, {}); }
    /// Items without a result.
    std::size_t owed() const noexcept { return owed_.size(); }
    /// Results that wait for those of earlier items.
    std::size_t held() const noexcept { return held_.size(); }
    /// How many items may be without a result.
    std::size_t window() const noexcept { return window_items_; }
    bool source_ended() const noexcept { return source_ended_; }
    bool is_finished() const noexcept { return source_ended_ && owed_.empty(); }

  private:
    enum class Place { unsent, in_flight, waiting };

    struct Owed {
        std::string id;
        v1::Item message;
        std::optional<TimePoint> deadline;
        Place place = Place::unsent;
        std::size_t sent_bytes = 0;  // counted when it was sent: what is left of its timeout changes its size
        TimePoint due{};             // while it waits
        bool withdrawn = false;
        int attempts = 0;
        int losses = 0;                         // how often the connection was lost while a server had it
        std::optional<TimePoint> down_since{};  // when a server first said, in this outage, that it cannot score it now
        TimePoint down_last{};
    };
    using OwedItems = std::map<std::uint64_t, Owed>;

    void withdraw(OwedItems::iterator item);
    void set_window(const v1::Window& window);
    void answer(const v1::ItemResult& result, TimePoint now);
    bool will_retry(std::uint64_t index, Owed& item, const Error& error, TimePoint now);
    void land(Owed& item, Place next);
    void settle(OwedItems::iterator item, std::variant<Score, Error> outcome);
    void give(Result result);

    SessionSettings settings_;
    OwedItems owed_;
    std::deque<std::uint64_t> unsent_;
    std::set<std::pair<TimePoint, std::uint64_t>> waiting_;  // for their retry, by when it is due
    std::set<std::pair<TimePoint, std::uint64_t>> deadlines_;
    std::vector<std::string> cancels_;
    std::map<std::uint64_t, Result> held_;
    std::vector<Result> settled_;
    std::uint64_t taken_ = 0;
    std::uint64_t given_ = 0;  // in submission order
    std::size_t in_flight_ = 0;
    std::size_t in_flight_bytes_ = 0;
    std::size_t window_items_ = 256;  // taken from the caller before the server has told its window
    std::size_t window_bytes_ = 0;
    std::int64_t max_message_bytes_ = kMaxMessageBytes;
    bool is_open_ = false;
    bool draining_ = false;
    bool source_ended_ = false;
};

}  // namespace rm_grpc
