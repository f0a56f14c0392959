// A server of this process, which does what a test says.
#pragma once

#include <grpcpp/server_builder.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "messages.h"
#include "rm_grpc/v1/reward_service.grpc.pb.h"

namespace rm_grpc::tests {

/// One call of ScoreBatch, as the server sees it.
class ServerCall {
  public:
    using Stream = grpc::ServerReaderWriter<v1::ScoreBatchResponse, v1::ScoreBatchRequest>;

    ServerCall(grpc::ServerContext& context, Stream& stream, int calls_before)
        : number(calls_before), context_(context), stream_(stream) {}

    /// The next message, or none after half-close or loss.
    std::optional<v1::ScoreBatchRequest> read() {
        v1::ScoreBatchRequest request;
        if (!stream_.Read(&request)) return std::nullopt;
        return request;
    }
    void write(const v1::ScoreBatchResponse& response) { stream_.Write(response); }
    bool is_cancelled() const { return context_.IsCancelled(); }
    std::string metadata(const char* key) const {
        const auto found = context_.client_metadata().find(key);
        return found == context_.client_metadata().end() ? "" : std::string(found->second.data(), found->second.size());
    }
    /// Answers the opening.
    void open(int window = 100) {
        read();
        write(opened(window));
    }

    /// How many calls there were before.
    const int number;

  private:
    grpc::ServerContext& context_;
    Stream& stream_;
};

class Server final : private v1::RewardService::Service {
  public:
    using Behaviour = std::function<grpc::Status(ServerCall&)>;

    explicit Server(Behaviour behaviour) : behaviour_(std::move(behaviour)) {
        grpc::ServerBuilder builder;
        builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
        builder.RegisterService(this);
        server_ = builder.BuildAndStart();
    }
    ~Server() override { server_->Shutdown(std::chrono::system_clock::now()); }

    std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
    int calls() const { return calls_; }

  private:
    grpc::Status ScoreBatch(grpc::ServerContext* context, ServerCall::Stream* stream) override {
        ServerCall call(*context, *stream, calls_++);
        return behaviour_(call);
    }

    grpc::Status GetModel(grpc::ServerContext* context, const v1::GetModelRequest* request,
                          v1::GetModelResponse* response) override {
        const auto& metadata = context->client_metadata();
        if (metadata.find("authorization") == metadata.end()) {
            const Error error{.code = Code::unauthenticated, .reason = "UNAUTHENTICATED", .message = "bring a token"};
            return {grpc::StatusCode::UNAUTHENTICATED, error.message, status_of(error).SerializeAsString()};
        }
        response->mutable_model()->set_name(request->name());
        response->mutable_model()->add_notes("a note");
        return grpc::Status::OK;
    }

    grpc::Status Tokenize(grpc::ServerContext*, const v1::TokenizeRequest* request,
                          v1::TokenizeResponse* response) override {
        for (const auto& item : request->items()) {
            auto& result = *response->add_results();
            result.set_id(item.id());
            result.mutable_tokenization()->set_rendered_text(item.text());
            result.mutable_tokenization()->add_ids(7);
        }
        return grpc::Status::OK;
    }

    Behaviour behaviour_;
    std::atomic<int> calls_ = 0;
    int port_ = 0;
    std::unique_ptr<grpc::Server> server_;
};

/// Scores each item with its number, until there are no more.
inline grpc::Status score_everything(ServerCall& call) {
    call.open();
    while (const auto request = call.read()) {
        v1::ScoreBatchResponse response;
        for (const auto& item : request->items().items())
            *response.mutable_results()->add_results() = scored(item.id(), std::stof(item.id()));
        if (response.results().results_size() > 0) call.write(response);
    }
    return grpc::Status::OK;
}

}  // namespace rm_grpc::tests
