// The one table between values and messages.
#pragma once

#include <cstdint>
#include <string>

#include "rm_grpc/v1/reward_service.pb.h"
#include "rm_grpc_client/item.h"
#include "rm_grpc_client/model.h"
#include "rm_grpc_client/options.h"
#include "rm_grpc_client/result.h"
#include "rm_grpc_client/seconds.h"

namespace rm_grpc {

inline constexpr Seconds kLongestDuration(315'576'000'000);  // protobuf's durations end there

/// An item as a message with that id, which is the client's own.
/// @throws CallError a value that the wire cannot carry, its field names the place; or the item is an error itself.
v1::Item message_of(Item&& item, std::string wire_id);

v1::ScoreOptions message_of(const ScoreOptions& options);

/// The outcome of an item. One that holds neither score nor error is an error, never a number.
std::variant<Score, Error> outcome_of(const v1::ItemResult& result);

ModelInfo model_of(const v1::ModelInfo& model);
TokenizeResult tokenize_result_of(const v1::TokenizeResult& result, std::string id);

void set_duration(google::protobuf::Duration& duration, Seconds value);
Seconds seconds_of(const google::protobuf::Duration& duration);

}  // namespace rm_grpc
