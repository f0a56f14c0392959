#include "stream_driver.h"

#include <algorithm>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "status.h"

namespace rm_grpc {

namespace {

constexpr Seconds kFirstPause(0.1), kLongestPause(2);  // between attempts to connect
constexpr Seconds kOpeningPatience(10);                // for a busy server's first word, however short `reconnect` is
constexpr std::chrono::seconds kLinger(1);             // for the call to end by itself, once all results are there
constexpr Seconds kLongestSleep(3600);                 // doubles reach further than the clock's own integers

Error unanswered(Seconds reconnect, const Error& last) {
    std::ostringstream told;
    told << "no server answered for " << reconnect.count() << " s; last: " << last.message;
    return own_error(Code::unavailable, reason::unavailable, told.str());
}

}  // namespace

StreamDriver::StreamDriver(std::shared_ptr<const Connection> connection, SessionSettings settings)
    : connection_(std::move(connection)),
      reconnect_(settings.reconnect),
      session_(std::move(settings)),
      thread_([this] { run(); }) {}

StreamDriver::~StreamDriver() {
    {
        Lock lock(mutex_);
        if (session_.is_finished()) changed_.wait_for(lock, kLinger, [this] { return ended_; });
        stop();
    }
    thread_.join();
}

std::uint64_t StreamDriver::send(Item item) {
    Lock lock(mutex_);
    room_.wait(lock, [this] { return has_room() || failure_ || session_.source_ended(); });
    return take(std::move(item));
}

bool StreamDriver::try_send(Item& item) {
    const Lock lock(mutex_);
    if (!failure_ && !has_room()) return false;
    take(std::move(item));
    return true;
}

void StreamDriver::finish() {
    const Lock lock(mutex_);
    session_.end_source();
    pump();
    room_.notify_all();
    changed_.notify_all();
}

std::optional<Result> StreamDriver::next() {
    Lock lock(mutex_);
    ready_.wait(lock, [this] { return !results_.empty() || failure_ || session_.is_finished(); });
    if (!results_.empty()) {
        auto result = std::move(results_.front());
        results_.pop_front();
        room_.notify_one();
        return result;
    }
    if (failure_) throw StreamError(*failure_);
    return std::nullopt;
}

void StreamDriver::cancel(std::uint64_t index) {
    const Lock lock(mutex_);
    session_.withdraw(index);
    pump();
}

void StreamDriver::cancel(std::string_view id) {
    const Lock lock(mutex_);
    session_.withdraw(id);
    pump();
}

void StreamDriver::close() {
    const Lock lock(mutex_);
    if (!is_over()) fail(own_error(Code::cancelled, reason::cancelled, "the stream was closed"));
    stop();
}

void StreamDriver::check_open() const {
    if (failure_) throw StreamError(*failure_);
    if (session_.source_ended()) throw std::logic_error("rm_grpc: send after finish");
}

std::uint64_t StreamDriver::take(Item&& item) {
    check_open();
    const auto index = session_.take(std::move(item), now());
    pump();
    return index;
}

// Does all that can be done now. To be called after every change.
void StreamDriver::pump() {
    session_.advance(now());
    if (call_ != nullptr && !writing_ && !half_closed_ && !call_ended_) {
        if (auto message = session_.next_message(now())) {
            writing_ = true;
            call_->write(std::move(*message));
        } else if (session_.is_finished()) {
            half_closed_ = true;
            call_->half_close();
        }
    }
    deliver();
    // The thread is woken where it would sleep past what comes next.
    const auto wakeup = session_.next_wakeup();
    if (call_ == nullptr || (wakeup && *wakeup < asleep_until_)) changed_.notify_all();
}

void StreamDriver::deliver() {
    auto settled = session_.take_settled();
    std::move(settled.begin(), settled.end(), std::back_inserter(results_));
    if (!settled.empty() || session_.is_finished()) ready_.notify_all();
}

void StreamDriver::fail(Error error) {
    failure_ = std::move(error);
    ready_.notify_all();
    room_.notify_all();
}

void StreamDriver::stop() {
    stopping_ = true;
    if (call_ != nullptr) call_->cancel();
    changed_.notify_all();
}

void StreamDriver::run() {
    Lock lock(mutex_);
    auto pause = kFirstPause;
    const auto expect_answer = [&] {
        if (unanswered_since_) return;
        unanswered_since_ = now();
        pause = kFirstPause;
    };
    while (!is_over()) {
        if (session_.owed() == 0) {
            unanswered_since_.reset();
            changed_.wait(lock);
            continue;
        }
        expect_answer();
        const auto lost = run_call(lock);
        if (!lost || session_.owed() == 0) continue;
        expect_answer();
        const auto give_up = *unanswered_since_ + reconnect_;
        if (now() >= give_up) {
            fail(unanswered(reconnect_, *lost));
            break;
        }
        for (const auto end = std::min(give_up, now() + pause); now() < end && !is_over(); pump()) sleep(lock, end);
        pause = std::min(2 * pause, kLongestPause);
    }
    ended_ = true;
    changed_.notify_all();
}

// One call to its end. Returns how the server was lost, if it was; what another server cannot mend fails the stream.
std::optional<Error> StreamDriver::run_call(Lock& lock) {
    const auto patience = std::max(reconnect_, kOpeningPatience);
    bool is_silent = false;
    ScoringCall call(*connection_, *this);
    call_ = &call;
    call_status_.reset();
    half_closed_ = call_ended_ = false;
    call.start();
    writing_ = true;
    call.write(session_.opening());
    while (!call_ended_ && !stopping_ && !is_silent) {
        const auto give_up = unanswered_since_ ? *unanswered_since_ + patience : TimePoint::max();
        sleep(lock, give_up);
        pump();
        is_silent = unanswered_since_ && now() >= give_up;
    }
    if (stopping_ || is_silent) call.cancel();
    call_ = nullptr;
    call.release();
    changed_.wait(lock, [this] { return call_status_.has_value(); });
    session_.lose_connection();
    deliver();

    if (is_over()) return std::nullopt;
    if (is_silent) return own_error(Code::unavailable, reason::unavailable, "the server took the call and did not answer");
    if (call_status_->ok())  // a server's death can look like the end of its answers
        return own_error(Code::unavailable, reason::unavailable, "the stream ended before every item was answered");
    auto error = error_of(*call_status_);
    // Cancelled, and not by us: a server or a proxy that goes.
    if (error.code == Code::unavailable || error.code == Code::cancelled) return error;
    fail(std::move(error));
    return std::nullopt;
}

void StreamDriver::sleep(Lock& lock, TimePoint limit) {
    asleep_until_ = std::min({session_.next_wakeup().value_or(limit), limit, now() + kLongestSleep});
    changed_.wait_until(lock, std::chrono::ceil<std::chrono::steady_clock::duration>(asleep_until_));
    asleep_until_ = TimePoint::min();
}

void StreamDriver::on_response(const v1::ScoreBatchResponse& response) {
    const Lock lock(mutex_);
    unanswered_since_.reset();
    session_.receive(response, now());
    pump();
    room_.notify_all();  // the window may have grown
}

void StreamDriver::on_written(bool ok) {
    const Lock lock(mutex_);
    if (!ok) return;  // the call ends, and its status says why: `writing_` stays, so that nothing more is written
    writing_ = false;
    pump();
}

void StreamDriver::on_end() {
    const Lock lock(mutex_);
    call_ended_ = true;
    changed_.notify_all();
}

void StreamDriver::on_done(const grpc::Status& status) {
    const Lock lock(mutex_);
    call_status_ = status;
    changed_.notify_all();
}

}  // namespace rm_grpc
