// The client of a reward-model service.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "rm_grpc_client/error.h"
#include "rm_grpc_client/item.h"
#include "rm_grpc_client/model.h"
#include "rm_grpc_client/result.h"
#include "rm_grpc_client/settings.h"
#include "rm_grpc_client/stream.h"

namespace rm_grpc {

class Connection;

/// Scores conversations with a reward service. Has a connection of its own, which is opened when it is first needed, and may
/// be used by many threads at once. Streams may outlive it.
class Client {
  public:
    /// @throws SettingsError a setting that cannot be, a file that cannot be read, or a token that would travel in the
    /// clear.
    explicit Client(Settings settings = {});
    Client(Client&&) noexcept;
    Client& operator=(Client&&) noexcept;
    ~Client();

    /// A stream that is yet to be fed.
    Stream open_stream() const;

    /// Scores a list; the results are in its order.
    /// @throws StreamError the stream under it has failed.
    std::vector<Result> score(std::vector<Item> items) const;

    /// The models that the server serves. @throws CallError
    std::vector<ModelInfo> list_models() const;

    /// The model of the settings. @throws CallError
    ModelInfo get_model() const;
    /// The model of that name. @throws CallError
    ModelInfo get_model(const std::string& name) const;

    /// What the model would read for each item, and the error that scoring it would give.
    /// @throws CallError also for an item that cannot be sent.
    std::vector<TokenizeResult> tokenize(std::vector<Item> items) const;

  private:
    Settings settings_;
    std::shared_ptr<const Connection> connection_;
};

}  // namespace rm_grpc
