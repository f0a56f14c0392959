#include "status.h"

#include <doctest/doctest.h>

#include "messages.h"

namespace rm_grpc::tests {

TEST_CASE("an error comes with all that its details say") {
    const Error given{
        .code = Code::not_found,
        .reason = "MODEL_NOT_FOUND",
        .message = "no such model",
        .field = "model",
        .retry_delay = Seconds(1.5),
        .metadata = {{"component", "judge"}},
    };
    const auto check = [&given](const Error& error) {
        CHECK(error.code == given.code);
        CHECK(error.reason == given.reason);
        CHECK(error.message == given.message);
        CHECK(error.field == given.field);
        CHECK(error.retry_delay == given.retry_delay);
        CHECK(error.metadata == given.metadata);
    };
    check(error_of(status_of(given)));
    check(error_of(grpc::Status(grpc::StatusCode::UNKNOWN, "flat", status_of(given).SerializeAsString())));
    CHECK(describe(given) == "NOT_FOUND (MODEL_NOT_FOUND): model: no such model");
}

TEST_CASE("without details the code says it") {
    using grpc::StatusCode;
    CHECK(error_of(grpc::Status(StatusCode::UNAUTHENTICATED, "who?")).reason == reason::unauthenticated);
    CHECK(error_of(grpc::Status(StatusCode::PERMISSION_DENIED, "no")).reason == "PERMISSION_DENIED");
    CHECK(error_of(grpc::Status(StatusCode::RESOURCE_EXHAUSTED, "full")).reason == reason::resource_exhausted);
    const grpc::Status large(StatusCode::RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)");
    CHECK(error_of(large).reason == reason::message_too_large);
    const grpc::Status broken(StatusCode::UNAVAILABLE, "gone", "\xFF no message");
    CHECK(error_of(broken).code == Code::unavailable);
}

TEST_CASE("codes, reasons and details that nobody knows yet") {
    google::rpc::Status status;
    status.set_code(99);
    CHECK(error_of(status).code == Code::unknown);
    status = status_of({.code = Code::aborted, .reason = "OF_THE_FUTURE", .message = "?"});
    status.add_details()->set_type_url("type.googleapis.com/of.the.Future");
    CHECK(error_of(status).code == Code::aborted);
    CHECK(error_of(status).reason == "OF_THE_FUTURE");
}

}  // namespace rm_grpc::tests
