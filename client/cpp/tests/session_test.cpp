// The rules of docs/writing-a-client.md, one by one, without a connection.

#include "session.h"

#include <doctest/doctest.h>

#include <random>

#include "messages.h"

namespace rm_grpc::tests {

namespace {

using Ids = std::vector<std::string>;

constexpr auto kTwoTo16 = 65'536;

TimePoint at(double seconds) { return TimePoint(Seconds(seconds)); }

Item text(std::size_t size = 1) { return {.input = RenderedText{std::string(size, 'x')}}; }

Session open_session(SessionSettings settings = {.attempts = 3}) {
    Session session(std::move(settings));
    session.receive(opened(), at(0));
    return session;
}

void take(Session& session, int count, double now = 0) {
    for (int taken = 0; taken < count; ++taken) session.take(text(), at(now));
}

// The ids of all items that may be sent now.
Ids sent(Session& session, double now = 0) {
    Ids ids;
    while (const auto message = session.next_message(at(now)))
        for (const auto& item : message->items().items()) ids.push_back(item.id());
    return ids;
}

void answer(Session& session, const std::vector<v1::ItemResult>& given, double now = 0) {
    session.receive(results(given), at(now));
}

void reopen(Session& session) {
    session.lose_connection();
    CHECK(sent(session).empty());
    session.receive(opened(), at(0));
}

Result only_result(Session& session) {
    auto settled = session.take_settled();
    REQUIRE(settled.size() == 1);
    return settled.front();
}

Error only_error(Session& session) {
    const auto result = only_result(session);
    REQUIRE(result.error() != nullptr);
    return *result.error();
}

Ids ids_of(const std::vector<Result>& given) {
    Ids ids;
    for (const auto& result : given) ids.push_back(result.id);
    return ids;
}

}  // namespace

TEST_CASE("the first message opens the stream, and nothing follows before the server's answer") {
    Session session({.model = "m", .options = {.activation = Activation::sigmoid}, .ordering = Ordering::submission});
    const auto request = session.opening();
    CHECK(request.open().model() == "m");
    CHECK(request.open().options().activation() == v1::ACTIVATION_SIGMOID);
    CHECK(request.open().ordering() == v1::ORDERING_COMPLETION);
    take(session, 1);
    CHECK(sent(session).empty());
    session.receive(opened(), at(0));
    CHECK(sent(session) == Ids{"0"});
}

TEST_CASE("items share messages of 32, and the caller's ids come back") {
    auto session = open_session();
    for (int index = 0; index < 70; ++index)
        session.take({.input = RenderedText{"x"}, .id = index % 2 ? "same" : ""}, at(0));
    CHECK(session.next_message(at(0))->items().items_size() == 32);
    CHECK(session.next_message(at(0))->items().items(0).id() == "32");
    CHECK(sent(session).size() == 6);
    answer(session, {scored("5", 0.5), scored("6")});
    const auto settled = session.take_settled();
    CHECK(ids_of(settled) == Ids{"same", "6"});
    CHECK(settled[0].index == 5);
    CHECK(settled[0].score()->score == 0.5F);
}

TEST_CASE("a message has about a megabyte") {
    auto session = open_session();
    session.receive(opened(100, 100'000'000), at(0));
    for (int taken = 0; taken < 4; ++taken) session.take(text(400'000), at(0));
    CHECK(session.next_message(at(0))->items().items_size() == 2);
    CHECK(session.next_message(at(0))->items().items_size() == 2);
}

TEST_CASE("the window is kept in items") {
    auto session = open_session();
    session.receive(opened(3), at(0));
    take(session, 5);
    CHECK(sent(session) == Ids{"0", "1", "2"});
    answer(session, {scored("1")});
    CHECK(sent(session) == Ids{"3"});
    v1::ScoreBatchResponse smaller;
    smaller.mutable_window()->set_items(1);
    session.receive(smaller, at(0));
    answer(session, {scored("0"), scored("2")});
    CHECK(sent(session).empty());
    answer(session, {scored("3")});
    CHECK(sent(session) == Ids{"4"});
}

TEST_CASE("the window is kept in bytes, as they are sent, and one item may always be in flight") {
    auto session = open_session();
    Item item = text();
    item.timeout = Seconds(100);
    for (int taken = 0; taken < 3; ++taken) session.take(item, at(0));
    v1::Item largest;
    largest.set_id("0");
    largest.set_text("x");
    set_duration(*largest.mutable_timeout(), Seconds(99.123456789));
    // What is left of the timeout is longer to say than the timeout was.
    session.receive(opened(100, 2 * static_cast<std::int64_t>(largest.ByteSizeLong()) - 1), at(0));
    CHECK(sent(session, 100 - 99.123456789) == Ids{"0"});
    session.receive(opened(100, 1), at(0));
    CHECK(sent(session).empty());
    answer(session, {scored("0")});
    CHECK(sent(session) == Ids{"1"});
}

TEST_CASE("a server that tells no window is given the default one") {
    auto session = open_session();
    session.receive(opened(0, 0), at(0));
    CHECK(session.window() == 256);
    take(session, 2);
    CHECK(sent(session) == Ids{"0", "1"});
}

TEST_CASE("an item that is larger than a message may be is an error of its own") {
    auto session = open_session();
    session.receive(opened(9, 1'000'000, 4000), at(0));
    for (const std::size_t size : {1, 4000, 2000, 2000}) session.take(text(size), at(0));
    CHECK(session.next_message(at(0))->items().items_size() == 2);
    CHECK(session.next_message(at(0))->items().items(0).id() == "3");
    const auto result = only_result(session);
    CHECK(result.index == 1);
    CHECK(result.error()->code == Code::resource_exhausted);
    CHECK(result.error()->reason == reason::message_too_large);
}

TEST_CASE("what cannot be sent is a result at once, and keeps its place in the numbering") {
    auto session = open_session();
    const Error unreadable{.code = Code::invalid_argument, .reason = "INVALID_REQUEST", .message = "no item"};
    const std::vector<std::pair<Item, std::string>> odd = {
        {{.input = Conversation{{{.role = "user"}, {.role = "user", .content = "\xFF"}}}},
         "conversation.messages[1].content"},
        {{.input = RenderedText{"\xED\xA0\x80"}}, "text"},
        {{.input = RenderedText{"x"}, .timeout = Seconds(-1)}, "timeout"},
        {{.input = RenderedText{"x"}, .timeout = Seconds(std::nan(""))}, "timeout"},
        {{.input = RenderedText{"x"}, .group = "\x80"}, "group"},
        {{.input = RenderedText{"x"}, .metadata_json = "[1]"}, "metadata"},
        {{.input = RenderedText{"x"}, .metadata_json = "{\"a\": "}, "metadata"},
        {{.input = unreadable, .id = "mine"}, ""},
    };
    for (const auto& [item, field] : odd) {
        session.take(item, at(0));
        const auto error = only_error(session);
        CHECK(error.code == Code::invalid_argument);
        CHECK(error.reason == reason::invalid_request);
        CHECK(error.field == field);
    }
    CHECK(session.owed() == 0);
    take(session, 1);
    CHECK(sent(session) == Ids{std::to_string(odd.size())});
}

TEST_CASE("everything that an item says is sent") {
    auto session = open_session();
    session.take({.input = Conversation{.messages = {{.role = "assistant",
                                                      .content = std::vector<std::string>{"a", "b"},
                                                      .tool_calls = {{"c1", "add", "{}"}},
                                                      .reasoning_content = "hm"},
                                                     {.role = "tool", .content = "4", .name = "n", .tool_call_id = "c1"}},
                                        .tools_json = "[{}]"},
                  .id = "mine",
                  .timeout = Seconds(2.5),
                  .group = "g",
                  .metadata_json = R"({"answer": {"is": [4, null]}})"},
                 at(0));
    session.take({.input = TokenIds{{1, -2, kTwoTo16}, "digest"}}, at(0));
    const auto message = session.next_message(at(0));
    const auto& item = message->items().items(0);
    CHECK(item.id() == "0");
    CHECK(item.conversation().messages(0).content(1).text() == "b");
    CHECK(item.conversation().messages(0).tool_calls(0).arguments_json() == "{}");
    CHECK(item.conversation().messages(0).reasoning_content() == "hm");
    CHECK(item.conversation().messages(1).name() == "n");
    CHECK(item.conversation().messages(1).tool_call_id() == "c1");
    CHECK(item.conversation().tools_json() == "[{}]");
    CHECK(item.timeout().seconds() == 2);
    CHECK(item.timeout().nanos() == 500'000'000);
    CHECK(item.group() == "g");
    CHECK(item.metadata().fields().at("answer").struct_value().fields().at("is").list_value().values(0).number_value() == 4);
    const auto& tokens = message->items().items(1).tokens();
    CHECK(tokens.ids() == std::string("\x01\0\0\0\xFE\xFF\xFF\xFF\0\0\x01\0", 12));
    CHECK(tokens.tokenizer_digest() == "digest");
}

TEST_CASE("what was unanswered when a connection was lost is sent again, in order") {
    auto session = open_session();
    take(session, 4);
    CHECK(sent(session).size() == 4);
    answer(session, {scored("1")});
    take(session, 1);
    reopen(session);
    CHECK(sent(session) == Ids{"0", "2", "3", "4"});
    session.take_settled();
    answer(session, {scored("1")});
    CHECK_MESSAGE(session.take_settled().empty(), "a second answer is no second result");
}

TEST_CASE("an item that servers are lost with is given up") {
    auto session = open_session();
    take(session, 1);
    for (int losses = 0; losses < 3; ++losses) {
        CHECK(session.take_settled().empty());
        CHECK(sent(session) == Ids{"0"});
        reopen(session);
    }
    CHECK(only_error(session).code == Code::unavailable);
    CHECK(session.owed() == 0);
}

TEST_CASE("an overloaded server is asked again, later each time, until the last attempt") {
    auto session = open_session();
    take(session, 1);
    CHECK(sent(session) == Ids{"0"});
    answer(session, {failed("0", overloaded())}, 10);
    CHECK(session.next_wakeup() == at(11));
    session.advance(at(10.9));
    CHECK(sent(session, 10.9).empty());
    session.advance(at(11));
    CHECK(sent(session, 11) == Ids{"0"});
    answer(session, {failed("0", overloaded())}, 11);
    session.advance(at(12.9));
    CHECK(sent(session, 12.9).empty());
    session.advance(at(13));
    CHECK(sent(session, 13) == Ids{"0"});
    CHECK(session.take_settled().empty());
    answer(session, {failed("0", overloaded())}, 13);
    const auto error = only_error(session);
    CHECK(error.reason == reason::overloaded);
    CHECK(error.retry_delay == Seconds(1));
}

TEST_CASE("an error without a retry delay is a result") {
    auto session = open_session();
    take(session, 1);
    sent(session);
    auto error = away();
    error.retry_delay.reset();
    answer(session, {failed("0", error)});
    CHECK(only_error(session).code == Code::unavailable);
}

TEST_CASE("a server that cannot score is tried for the time of reconnecting, in each outage anew") {
    auto session = open_session({.reconnect = Seconds(10), .attempts = 1});
    take(session, 1);
    const auto refuse = [&session](double now) {
        session.advance(at(now));
        REQUIRE(sent(session, now) == Ids{"0"});
        answer(session, {failed("0", away())}, now);
    };
    refuse(0);
    refuse(6);     // within 5 s after the delay of the one before: the same outage
    refuse(12.1);  // more than that: another outage
    refuse(18);
    CHECK(session.take_settled().empty());
    refuse(22.1);
    CHECK(only_error(session).code == Code::unavailable);
}

TEST_CASE("where an item's time would be over before the next attempt, the error is the result") {
    auto session = open_session({.timeout = Seconds(10), .attempts = 3});
    take(session, 1);
    sent(session);
    answer(session, {failed("0", overloaded(60))});
    CHECK(only_error(session).reason == reason::overloaded);
}

TEST_CASE("a draining server gets nothing more, and the next connection takes what is left") {
    auto session = open_session({.attempts = 1});
    take(session, 1);
    CHECK(sent(session) == Ids{"0"});
    take(session, 1);
    v1::ScoreBatchResponse bye;
    bye.mutable_draining();
    session.receive(bye, at(0));
    CHECK(sent(session).empty());
    answer(session, {failed("0", draining())});
    CHECK(session.take_settled().empty());
    reopen(session);
    CHECK(sent(session) == Ids{"1", "0"});
}

TEST_CASE("what the server says of the item that it drains is enough to send it nothing more") {
    auto session = open_session();
    take(session, 1);
    sent(session);
    answer(session, {failed("0", draining())});
    take(session, 1);
    CHECK(sent(session).empty());
}

TEST_CASE("an item that is late has the server's error, or 5 s later the client's, connected or not") {
    Session session({.timeout = Seconds(2)});
    take(session, 1);
    session.take({.input = RenderedText{"x"}, .id = "b", .timeout = Seconds(30)}, at(0));
    SUBCASE("connected") {
        session.receive(opened(), at(0));
        CHECK(sent(session, 1).size() == 2);
    }
    SUBCASE("not connected") {}
    CHECK(session.next_wakeup() == at(7));
    session.advance(at(6.9));
    CHECK(session.take_settled().empty());
    session.advance(at(7));
    CHECK(only_error(session).code == Code::deadline_exceeded);
    answer(session, {scored("0")}, 8);
    CHECK(session.take_settled().empty());
    CHECK(session.next_wakeup() == at(35));
}

TEST_CASE("what expires while it waits wakes nobody") {
    auto session = open_session({.timeout = Seconds(10), .attempts = 3});
    take(session, 1);
    sent(session);
    answer(session, {failed("0", overloaded())});
    CHECK(session.next_wakeup() == at(1));
    session.advance(at(15));
    CHECK(session.take_settled().size() == 1);
    CHECK(session.next_wakeup() == std::nullopt);
}

TEST_CASE("each sending carries what is left of the timeout") {
    auto session = open_session({.timeout = Seconds(10)});
    take(session, 1, 100);
    CHECK(seconds_of(session.next_message(at(104))->items().items(0).timeout()).count() == doctest::Approx(6));
    reopen(session);
    CHECK(session.next_message(at(112))->items().items(0).timeout().seconds() == 0);
}

TEST_CASE("without a timeout nothing expires") {
    auto session = open_session({.timeout = std::nullopt});
    take(session, 1);
    CHECK_FALSE(session.next_message(at(0))->items().items(0).has_timeout());
    CHECK(session.next_wakeup() == std::nullopt);
}

TEST_CASE("an item that is not in flight is taken back at once") {
    auto session = open_session({.attempts = 3});
    take(session, 2);
    session.withdraw(1U);
    const auto result = only_result(session);
    CHECK(result.index == 1);
    CHECK(result.error()->code == Code::cancelled);
    CHECK(sent(session) == Ids{"0"});
    answer(session, {failed("0", overloaded())});
    session.withdraw(0U);
    CHECK(only_error(session).code == Code::cancelled);
    CHECK(session.next_wakeup() == std::nullopt);
    session.withdraw(0U);
    session.withdraw(7U);
    CHECK(session.take_settled().empty());
}

TEST_CASE("an item in flight is taken back by the server, whose result is the result") {
    auto session = open_session();
    for (const auto* id : {"a", "b", "a"}) session.take({.input = RenderedText{"x"}, .id = id}, at(0));
    sent(session);
    session.withdraw("a");
    session.withdraw("a");
    const auto message = session.next_message(at(0));
    CHECK(Ids(message->cancel().ids().begin(), message->cancel().ids().end()) == Ids{"0", "2"});
    CHECK(session.next_message(at(0)) == std::nullopt);
    CHECK(session.take_settled().empty());
    answer(session, {scored("0"), failed("2", overloaded())});
    const auto settled = session.take_settled();
    CHECK(settled[0].score() != nullptr);
    CHECK(settled[1].error()->reason == reason::overloaded);
}

TEST_CASE("an item that is being taken back when the connection is lost is not sent again") {
    auto session = open_session();
    take(session, 1);
    sent(session);
    session.withdraw(0U);
    session.lose_connection();
    CHECK(only_error(session).code == Code::cancelled);
    session.receive(opened(), at(0));
    CHECK(session.next_message(at(0)) == std::nullopt);
}

TEST_CASE("in submission order results are held back until all before them are there") {
    auto session = open_session({.ordering = Ordering::submission, .attempts = 3});
    take(session, 2);
    session.take({.input = RenderedText{"\xFF"}}, at(0));
    take(session, 1);
    sent(session);
    answer(session, {scored("3"), scored("1"), failed("0", overloaded())});
    CHECK(session.take_settled().empty());
    CHECK(session.owed() == 1);
    CHECK(session.held() == 3);
    session.advance(at(1));
    sent(session, 1);
    answer(session, {scored("0")}, 1);
    CHECK(ids_of(session.take_settled()) == Ids{"0", "1", "2", "3"});
    CHECK(session.held() == 0);
}

TEST_CASE("kinds of messages, ids and outcomes that the client does not know do no harm") {
    auto session = open_session();
    take(session, 1);
    sent(session);
    session.receive(v1::ScoreBatchResponse(), at(0));
    for (const auto* id : {"", "7", "00", "+0", "0 ", "x", "99999999999999999999999"}) answer(session, {scored(id)});
    CHECK(session.take_settled().empty());
    v1::ItemResult neither;
    neither.set_id("0");
    answer(session, {neither});
    CHECK(only_error(session).code == Code::internal);
}

TEST_CASE("a stream is finished when no more comes and all is answered") {
    auto session = open_session();
    take(session, 1);
    sent(session);
    session.end_source();
    CHECK_FALSE(session.is_finished());
    answer(session, {scored("0")});
    CHECK(session.is_finished());
}

// A server that answers, refuses, repeats itself, loses connections and is slow, in any order.
TEST_CASE("every item gets exactly one result, whatever the server does") {
    for (unsigned seed = 0; seed < 300; ++seed) {
        CAPTURE(seed);
        std::mt19937 random(seed);
        const auto below = [&random](unsigned bound) { return static_cast<unsigned>(random() % bound); };
        const auto ordering = seed % 2 == 0 ? Ordering::completion : Ordering::submission;
        auto session = open_session({.ordering = ordering, .timeout = Seconds(50), .attempts = 3});
        double now = 0;
        std::uint64_t taken = 0;
        Ids in_flight;
        std::vector<int> results_of;
        std::vector<std::uint64_t> order;
        const auto collect = [&] {
            for (const auto& result : session.take_settled()) {
                REQUIRE(result.index < taken);
                REQUIRE(++results_of[result.index] == 1);
                order.push_back(result.index);
            }
        };
        const auto reopen_with = [&](int items) {
            in_flight.clear();
            session.lose_connection();
            session.receive(opened(items), at(now));
        };
        for (int step = 0; step < 80; ++step) {
            switch (below(8)) {
                case 0:
                    for (unsigned count = below(20); count > 0 && session.owed() < session.window(); --count) {
                        results_of.push_back(0);
                        taken = session.take(text(below(50)), at(now)) + 1;
                    }
                    break;
                case 1:
                case 2:
                    for (auto& id : sent(session, now)) in_flight.push_back(std::move(id));
                    break;
                case 3:
                case 4:
                case 5: {
                    if (in_flight.empty()) break;
                    const auto chosen = in_flight.begin() + below(static_cast<unsigned>(in_flight.size()));
                    const v1::ItemResult outcomes[] = {scored(*chosen), failed(*chosen, overloaded(0.5)),
                                                       failed(*chosen, draining(0.5)), failed(*chosen, away(0.5))};
                    answer(session, {outcomes[below(4)]}, now);
                    in_flight.erase(chosen);
                    break;
                }
                case 6:
                    if (below(4) == 0) reopen_with(1 + static_cast<int>(below(30)));
                    if (taken > 0) answer(session, {scored(std::to_string(below(static_cast<unsigned>(taken))))}, now);
                    if (taken > 0) session.withdraw(std::uint64_t{below(static_cast<unsigned>(taken))});
                    break;
                default: now += below(100) / 10.0; session.advance(at(now));
            }
            // An answer that was made up may have met an item in flight, which is then off the server's list.
            std::erase_if(in_flight, [&](const std::string& id) { return results_of[std::stoul(id)] != 0; });
            collect();
        }
        session.end_source();
        for (int round = 0; round < 1000 && !session.is_finished(); ++round) {
            reopen_with(1000);
            for (const auto& id : sent(session, now)) answer(session, {scored(id)}, now);
            session.advance(at(now += 1));
            collect();
        }
        collect();
        CHECK(session.is_finished());
        CHECK(std::count(results_of.begin(), results_of.end(), 1) == static_cast<std::ptrdiff_t>(taken));
        if (ordering == Ordering::submission) CHECK(std::is_sorted(order.begin(), order.end()));
    }
}

}  // namespace rm_grpc::tests
