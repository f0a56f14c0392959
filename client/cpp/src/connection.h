// The connection of a client: address, encryption, token, and the options that long streams need.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <memory>
#include <string>

#include "rm_grpc/v1/reward_service.grpc.pb.h"
#include "rm_grpc_client/settings.h"

namespace rm_grpc {

class Connection {
  public:
    /// @throws SettingsError
    explicit Connection(const Settings& settings);

    v1::RewardService::Stub& stub() const noexcept { return *stub_; }

    /// Gives a call what every call carries.
    void prepare(grpc::ClientContext& context) const;

  private:
    std::string authorization_;
    std::unique_ptr<v1::RewardService::Stub> stub_;
};

}  // namespace rm_grpc
