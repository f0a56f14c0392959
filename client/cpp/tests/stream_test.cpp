// Streams against a server of this process: threads, losses, failures and the end.

#include "rm_grpc_client/stream.h"

#include <doctest/doctest.h>

#include <chrono>
#include <future>
#include <thread>

#include "rm_grpc_client/client.h"
#include "server.h"

namespace rm_grpc::tests {

namespace {

using namespace std::chrono_literals;

Input text() { return RenderedText{"x"}; }

// Reads to the end; how often each position came.
std::vector<int> read_all(Stream& stream, std::size_t count) {
    std::vector<int> seen(count);
    while (const auto result = stream.next()) {
        REQUIRE(result->index < count);
        ++seen[result->index];
        CHECK(result->score() != nullptr);
    }
    return seen;
}

Error failure_of(Stream& stream) {
    try {
        while (stream.next()) {
        }
    } catch (const StreamError& error) {
        return error.error();
    }
    FAIL("the stream should have failed");
    return {};
}

// Reads until the client is gone.
grpc::Status hang(ServerCall& call) {
    call.open();
    while (call.read()) {
    }
    return grpc::Status::OK;
}

}  // namespace

TEST_CASE("one thread sends, another reads, and the stream ends by half-close") {
    std::promise<bool> ended_well;
    Server server([&](ServerCall& call) {
        auto status = score_everything(call);
        ended_well.set_value(!call.is_cancelled());
        return status;
    });
    constexpr std::size_t kCount = 3000;
    {
        auto stream = Client({.address = server.address()}).open_stream();
        std::thread sender([&stream] {
            for (std::size_t index = 0; index < kCount; ++index) CHECK(stream.send(text()) == index);
            stream.finish();
        });
        CHECK(read_all(stream, kCount) == std::vector<int>(kCount, 1));
        sender.join();
        CHECK(stream.next() == std::nullopt);
        CHECK_THROWS_AS(stream.send(text()), std::logic_error);
    }
    CHECK(ended_well.get_future().get());
    CHECK(server.calls() == 1);
}

TEST_CASE("several threads may send and read at once") {
    Server server(score_everything);
    auto stream = Client({.address = server.address()}).open_stream();
    constexpr int kThreads = 4, kEach = 200;
    std::atomic<int> read = 0;
    std::vector<std::thread> senders, readers;
    for (int thread = 0; thread < kThreads; ++thread) {
        senders.emplace_back([&stream] {
            for (int sent = 0; sent < kEach; ++sent) stream.send(text());
        });
        readers.emplace_back([&] {
            while (stream.next()) ++read;
        });
    }
    for (auto& thread : senders) thread.join();
    stream.finish();
    for (auto& thread : readers) thread.join();
    CHECK(read == kThreads * kEach);
}

TEST_CASE("what a lost server had is sent to the next connection, and each item has one result") {
    Server server([](ServerCall& call) {
        if (call.number == 3) return score_everything(call);
        call.open();
        while (const auto request = call.read()) {
            if (!request->has_items()) continue;
            call.write(results({scored(request->items().items(0).id())}));
            break;
        }
        return call.number == 1 ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone") : grpc::Status::OK;
    });
    auto stream = Client({.address = server.address()}).open_stream();
    for (int sent = 0; sent < 50; ++sent) stream.send(text());
    stream.finish();
    CHECK(read_all(stream, 50) == std::vector<int>(50, 1));
    CHECK(server.calls() == 4);
}

TEST_CASE("an item that is lost too often is the last result of a stream that has ended") {
    Server server([](ServerCall& call) {
        call.open();
        call.read();
        return grpc::Status::OK;
    });
    auto stream = Client({.address = server.address(), .attempts = 2}).open_stream();
    stream.send(text());
    stream.finish();
    const auto result = stream.next();
    REQUIRE(result);
    CHECK(result->error()->code == Code::unavailable);
    CHECK(stream.next() == std::nullopt);
}

TEST_CASE("a call that ends with another error fails the stream, for every reader and sender") {
    const Error given{.code = Code::not_found, .reason = "MODEL_NOT_FOUND", .message = "no such model", .field = "model"};
    Server server([&given](ServerCall& call) {
        call.read();
        return grpc::Status(grpc::StatusCode::NOT_FOUND, "", status_of(given).SerializeAsString());
    });
    auto stream = Client({.address = server.address()}).open_stream();
    stream.send(text());
    for (int reads = 0; reads < 2; ++reads) CHECK(failure_of(stream).reason == reason::model_not_found);
    CHECK_THROWS_AS(stream.send(text()), StreamError);
}

TEST_CASE("where no server answers the stream fails") {
    auto stream = Client({.address = "127.0.0.1:1", .reconnect = 300ms}).open_stream();
    stream.send(text());
    const auto error = failure_of(stream);
    CHECK(error.code == Code::unavailable);
    CHECK(error.message.find("0.3 s") != std::string::npos);
}

TEST_CASE("a server that is lost while nothing is owed fails nothing") {
    Server server([](ServerCall& call) {
        call.open();
        const auto request = call.read();
        call.write(results({scored(request->items().items(0).id())}));
        return grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
    });
    auto stream = Client({.address = server.address(), .reconnect = 0s}).open_stream();
    for (int sent = 0; sent < 3; ++sent) {
        stream.send(text());
        CHECK(stream.next()->score() != nullptr);
        std::this_thread::sleep_for(50ms);
    }
}

TEST_CASE("a stream without items makes no call") {
    Server server(score_everything);
    auto stream = Client({.address = server.address()}).open_stream();
    stream.finish();
    CHECK(stream.next() == std::nullopt);
    CHECK(server.calls() == 0);
}

TEST_CASE("send waits while the window is full, results that nobody has read included") {
    Server server([](ServerCall& call) {
        call.open(2);
        while (const auto request = call.read())
            for (const auto& item : request->items().items()) call.write(results({scored(item.id())}));
        return grpc::Status::OK;
    });
    auto stream = Client({.address = server.address()}).open_stream();
    stream.send(text());
    CHECK(stream.next());
    stream.send(text());
    stream.send(text());
    auto third = std::async(std::launch::async, [&stream] { return stream.send(text()); });
    CHECK(third.wait_for(200ms) == std::future_status::timeout);
    CHECK(stream.next());
    CHECK(third.get() == 3);
}

TEST_CASE("the destructor cancels the call that is in progress") {
    std::promise<bool> cancelled;
    std::promise<void> begun;
    Server server([&](ServerCall& call) {
        call.open();
        call.read();
        begun.set_value();
        call.read();
        cancelled.set_value(call.is_cancelled());
        return grpc::Status::OK;
    });
    {
        auto stream = Client({.address = server.address()}).open_stream();
        stream.send(text());
        begun.get_future().wait();
    }
    CHECK(cancelled.get_future().get());
}

TEST_CASE("close wakes who waits") {
    Server server(hang);
    auto stream = Client({.address = server.address()}).open_stream();
    stream.send(text());
    auto reader = std::async(std::launch::async, [&stream] { return failure_of(stream).code; });
    auto sender = std::async(std::launch::async, [&stream] {
        try {
            for (;;) stream.send(text());
        } catch (const StreamError& error) {
            return error.error().code;
        }
    });
    std::this_thread::sleep_for(100ms);
    stream.close();
    CHECK(reader.get() == Code::cancelled);
    CHECK(sender.get() == Code::cancelled);
}

TEST_CASE("an item's time runs out by the client's clock where the server hangs") {
    Server server(hang);
    auto stream = Client({.address = server.address()}).open_stream();
    stream.send({.input = text(), .timeout = 10ms});
    stream.finish();
    const auto result = stream.next();
    REQUIRE(result);
    CHECK(result->error()->code == Code::deadline_exceeded);
    CHECK(stream.next() == std::nullopt);
}

TEST_CASE("a retry is sent when it is due, and an item that is taken back is told to the server") {
    Server server([](ServerCall& call) {
        call.open();
        bool was_busy = false;
        while (const auto request = call.read()) {
            if (request->has_items()) {
                const auto& id = request->items().items(0).id();
                if (id == "0" && !std::exchange(was_busy, true))
                    call.write(results({failed(id, overloaded(0.05))}));
                else if (id == "0")
                    call.write(results({scored(id)}));
            }
            for (const auto& id : request->cancel().ids())
                call.write(results({failed(id, {.code = Code::cancelled, .reason = "CANCELLED", .message = "as you say"})}));
        }
        return grpc::Status::OK;
    });
    auto stream = Client({.address = server.address()}).open_stream();
    stream.send(text());
    CHECK(stream.next()->score() != nullptr);
    stream.send({.input = text(), .id = "mine"});
    std::this_thread::sleep_for(50ms);
    stream.cancel("mine");
    CHECK(stream.next()->error()->message == "as you say");
}

TEST_CASE("the client scores lists longer than the window, in their order") {
    Server server(score_everything);
    const Client client({.address = server.address()});
    std::vector<Item> items(1000, {.input = text()});
    items[500].input = RenderedText{"\xFF"};
    const auto results = client.score(items);
    REQUIRE(results.size() == items.size());
    for (std::size_t index = 0; index < results.size(); ++index) {
        CHECK(results[index].index == index);
        if (index == 500)
            CHECK(results[index].error()->code == Code::invalid_argument);
        else
            CHECK(results[index].score()->score == static_cast<float>(index));
    }
    CHECK(client.score({}).empty());
}

TEST_CASE("calls bring the token, and tell their errors") {
    Server server([](ServerCall& call) {
        const auto token = call.metadata("authorization");
        return token == "Bearer secret" ? score_everything(call) : grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "who?");
    });
    const Client known({.address = server.address(), .token = "secret"});
    CHECK(known.score({{.input = text()}})[0].score() != nullptr);
    CHECK(known.get_model("m").name == "m");
    CHECK(known.get_model().notes == std::vector<std::string>{"a note"});
    const Client stranger({.address = server.address()});
    CHECK_THROWS_AS(stranger.score({{.input = text()}}), StreamError);
    try {
        stranger.get_model();
        FAIL("should be refused");
    } catch (const CallError& error) {
        CHECK(error.error().code == Code::unauthenticated);
    }
    try {
        known.list_models();
        FAIL("is not implemented");
    } catch (const CallError& error) {
        CHECK(error.error().code == Code::unimplemented);
    }
}

TEST_CASE("tokenize keeps the caller's ids, and names the item that cannot be sent") {
    Server server(score_everything);
    const Client client({.address = server.address()});
    const auto results =
        client.tokenize({{.input = text(), .id = "same"}, {.input = text(), .id = "same"}, {.input = text()}});
    REQUIRE(results.size() == 3);
    CHECK(results[1].id == "same");
    CHECK(results[2].id == "2");
    CHECK(results[2].tokenization->ids == std::vector<std::int32_t>{7});
    try {
        client.tokenize({{.input = text()}, {.input = RenderedText{"\xFF"}}});
        FAIL("should be refused");
    } catch (const CallError& error) {
        CHECK(error.error().field == "items[1].text");
    }
}

TEST_CASE("settings that cannot be are refused when the client is made") {
    const auto field_of = [](Settings settings) -> std::string {
        try {
            const Client client(std::move(settings));
        } catch (const SettingsError& error) {
            CHECK(std::string(error.what()).find("sesame") == std::string::npos);
            return error.field();
        }
        return "";
    };
    CHECK(field_of({.address = ""}) == "address");
    CHECK(field_of({.timeout = Seconds(-1)}) == "timeout");
    CHECK(field_of({.reconnect = Seconds(-1)}) == "reconnect");
    CHECK(field_of({.attempts = 0}) == "attempts");
    CHECK(field_of({.cert_file = "client.pem"}) == "key_file");
    CHECK(field_of({.key_file = "client.key"}) == "cert_file");
    CHECK(field_of({.ca_file = "no/such/file.pem"}) == "ca_file");
    CHECK(field_of({.ca_file = "/"}) == "ca_file");
    CHECK(field_of({.ca_file = "/dev/null"}) == "ca_file");
    CHECK(field_of({.token = "open\nsesame"}) == "token");
    CHECK(field_of({.address = "rewards.example:1", .token = "sesame"}) == "token");
    CHECK(field_of({.address = "rewards.example:1", .token = "sesame", .insecure = true}).empty());
    CHECK(field_of({.address = "rewards.example:1", .tls = true, .token = "sesame"}).empty());
    CHECK(field_of({.address = "127.0.0.1:1", .token = "sesame"}).empty());
}

}  // namespace rm_grpc::tests
