#include "session.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "convert.h"
#include "status.h"

namespace rm_grpc {

namespace {

constexpr int kMessageItems = 32;
constexpr std::size_t kMessageBytes = 1'000'000;
constexpr std::int64_t kMessageOverhead = 1024;  // kept free for what stands around the items
constexpr std::size_t kDefaultWindow = 256;      // for a server that tells none
constexpr Seconds kAnswerGrace(5);               // for the server's own answer to come after a deadline

Error taken_back() { return own_error(Code::cancelled, reason::cancelled, "taken back by the caller"); }

// The position that an id on the wire stands for; none where this client cannot have written it.
std::optional<std::uint64_t> position_of(const std::string& id) {
    std::uint64_t index = 0;
    const auto* const end = id.data() + id.size();
    const auto [stop, error] = std::from_chars(id.data(), end, index);
    if (error != std::errc() || stop != end || std::to_string(index) != id) return std::nullopt;
    return index;
}

}  // namespace

std::uint64_t Session::take(Item item, TimePoint now) {
    const auto index = taken_++;
    auto id = item.id.empty() ? std::to_string(index) : std::move(item.id);
    if (!item.timeout) item.timeout = settings_.timeout;
    const auto timeout = item.timeout;
    v1::Item message;
    try {
        message = message_of(std::move(item), std::to_string(index));
    } catch (const CallError& error) {
        give({std::move(id), index, error.error()});
        return index;
    }
    auto& owed = owed_[index];
    owed.id = std::move(id);
    owed.message = std::move(message);
    if (timeout) {
        owed.deadline = now + *timeout;
        deadlines_.emplace(*owed.deadline, index);
    }
    unsent_.push_back(index);
    return index;
}

void Session::withdraw(std::uint64_t index) {
    if (const auto found = owed_.find(index); found != owed_.end()) withdraw(found);
}

void Session::withdraw(std::string_view id) {
    for (auto at = owed_.begin(); at != owed_.end();) {
        const auto item = at++;
        if (item->second.id == id) withdraw(item);
    }
}

void Session::withdraw(OwedItems::iterator item) {
    auto& owed = item->second;
    if (owed.withdrawn) return;
    owed.withdrawn = true;
    if (owed.place == Place::in_flight)
        cancels_.push_back(owed.message.id());
    else
        settle(item, taken_back());
}

v1::ScoreBatchRequest Session::opening() const {
    v1::ScoreBatchRequest request;
    auto& open = *request.mutable_open();
    open.set_model(settings_.model);
    *open.mutable_options() = message_of(settings_.options);
    // The order is kept here: the server cannot know where an item that is sent again belongs.
    open.set_ordering(v1::ORDERING_COMPLETION);
    return request;
}

std::optional<v1::ScoreBatchRequest> Session::next_message(TimePoint now) {
    if (!is_open_) return std::nullopt;
    v1::ScoreBatchRequest request;
    if (!cancels_.empty()) {
        auto& ids = *request.mutable_cancel()->mutable_ids();
        ids.Assign(cancels_.begin(), cancels_.end());
        cancels_.clear();
        return request;
    }
    const auto largest = static_cast<std::size_t>(std::max<std::int64_t>(0, max_message_bytes_ - kMessageOverhead));
    std::size_t size = 0;
    while (!draining_ && !unsent_.empty() && request.items().items_size() < kMessageItems) {
        const auto found = owed_.find(unsent_.front());
        auto& owed = found->second;
        if (owed.deadline) set_duration(*owed.message.mutable_timeout(), std::max(Seconds::zero(), *owed.deadline - now));
        const auto bytes = owed.message.ByteSizeLong();
        if (bytes > largest) {
            settle(found, own_error(Code::resource_exhausted, reason::message_too_large,
                                    "the item has " + std::to_string(bytes) + " bytes, and a message may have " +
                                        std::to_string(max_message_bytes_) + ": send less text"));
            continue;
        }
        const bool is_full = in_flight_ >= window_items_ || (in_flight_ > 0 && in_flight_bytes_ + bytes > window_bytes_);
        if (is_full || (size > 0 && size + bytes > std::min(kMessageBytes, largest))) break;
        unsent_.pop_front();
        owed.place = Place::in_flight;
        owed.sent_bytes = bytes;
        ++in_flight_;
        in_flight_bytes_ += bytes;
        size += bytes;
        *request.mutable_items()->add_items() = owed.message;
    }
    if (request.items().items().empty()) return std::nullopt;
    return request;
}

void Session::receive(const v1::ScoreBatchResponse& response, TimePoint now) {
    switch (response.message_case()) {
        case v1::ScoreBatchResponse::kResults:
            for (const auto& result : response.results().results()) answer(result, now);
            break;
        case v1::ScoreBatchResponse::kOpened:
            if (const auto told = response.opened().model().limits().max_message_bytes(); told > 0)
                max_message_bytes_ = std::min(told, kMaxMessageBytes);
            is_open_ = true;
            set_window(response.opened().window());
            break;
        case v1::ScoreBatchResponse::kWindow: set_window(response.window()); break;
        case v1::ScoreBatchResponse::kDraining: draining_ = true; break;
        case v1::ScoreBatchResponse::MESSAGE_NOT_SET: break;  // a kind that a newer server knows
    }
}

void Session::lose_connection() {
    is_open_ = draining_ = false;
    cancels_.clear();
    std::deque<std::uint64_t> again;
    for (auto at = owed_.begin(); at != owed_.end();) {
        const auto item = at++;
        auto& owed = item->second;
        if (owed.place != Place::in_flight) continue;
        if (owed.withdrawn) {
            settle(item, taken_back());
        } else if (++owed.losses >= settings_.attempts) {
            settle(item, own_error(Code::unavailable, reason::unavailable,
                                   "the server was lost " + std::to_string(owed.losses) + " times with this item"));
        } else {
            land(owed, Place::unsent);
            again.push_back(item->first);
        }
    }
    unsent_.insert(unsent_.begin(), again.begin(), again.end());
}

void Session::advance(TimePoint now) {
    while (!waiting_.empty() && waiting_.begin()->first <= now) {
        const auto index = waiting_.begin()->second;
        waiting_.erase(waiting_.begin());
        owed_.at(index).place = Place::unsent;
        unsent_.push_back(index);
    }
    while (!deadlines_.empty() && deadlines_.begin()->first + kAnswerGrace <= now)
        settle(owed_.find(deadlines_.begin()->second), own_error(Code::deadline_exceeded, reason::deadline_exceeded,
                                                                 "the item's time ran out without an answer of the server"));
}

std::optional<TimePoint> Session::next_wakeup() const {
    std::optional<TimePoint> at;
    if (!waiting_.empty()) at = waiting_.begin()->first;
    if (!deadlines_.empty()) {
        const auto late = deadlines_.begin()->first + kAnswerGrace;
        at = at ? std::min(*at, late) : late;
    }
    return at;
}

void Session::set_window(const v1::Window& window) {
    window_items_ = window.items() > 0 ? static_cast<std::size_t>(window.items()) : kDefaultWindow;
    window_bytes_ = window.bytes() > 0 ? static_cast<std::size_t>(window.bytes()) : std::numeric_limits<std::size_t>::max();
}

void Session::answer(const v1::ItemResult& result, TimePoint now) {
    const auto index = position_of(result.id());
    const auto found = index ? owed_.find(*index) : owed_.end();
    if (found == owed_.end() || found->second.place != Place::in_flight) return;  // answered already, or expired here
    auto outcome = outcome_of(result);
    const auto* const error = std::get_if<Error>(&outcome);
    if (error == nullptr || !will_retry(found->first, found->second, *error, now)) settle(found, std::move(outcome));
}

bool Session::will_retry(std::uint64_t index, Owed& item, const Error& error, TimePoint now) {
    if (!error.retry_delay || item.withdrawn) return false;
    if (error.code == Code::unavailable && error.reason == reason::draining) {
        draining_ = true;
        land(item, Place::unsent);
        unsent_.push_back(index);
        return true;
    }
    bool is_over = false;
    if (error.code == Code::unavailable) {
        // The server is there, and its scorers are not: they come back, or another server is no better off.
        if (!item.down_since || now - item.down_last > *error.retry_delay + kAnswerGrace) item.down_since = now;
        item.down_last = now;
        item.due = now + *error.retry_delay;
        is_over = now - *item.down_since >= settings_.reconnect;
    } else {
        ++item.attempts;
        item.due = now + *error.retry_delay * item.attempts;
        is_over = item.attempts >= settings_.attempts;
    }
    if (is_over || (item.deadline && item.due >= *item.deadline)) return false;
    land(item, Place::waiting);
    waiting_.emplace(item.due, index);
    return true;
}

// Takes it out of what is in flight.
void Session::land(Owed& item, Place next) {
    --in_flight_;
    in_flight_bytes_ -= item.sent_bytes;
    item.place = next;
}

void Session::settle(OwedItems::iterator item, std::variant<Score, Error> outcome) {
    auto& [index, owed] = *item;
    switch (owed.place) {
        case Place::unsent: std::erase(unsent_, index); break;
        case Place::in_flight: land(owed, Place::unsent); break;
        case Place::waiting: waiting_.erase({owed.due, index}); break;
    }
    if (owed.deadline) deadlines_.erase({*owed.deadline, index});
    Result result{std::move(owed.id), index, std::move(outcome)};
    owed_.erase(item);
    give(std::move(result));
}

void Session::give(Result result) {
    if (settings_.ordering == Ordering::completion) return settled_.push_back(std::move(result));
    held_.emplace(result.index, std::move(result));
    for (auto first = held_.begin(); first != held_.end() && first->first == given_; ++given_) {
        settled_.push_back(std::move(first->second));
        first = held_.erase(first);
    }
}

}  // namespace rm_grpc
