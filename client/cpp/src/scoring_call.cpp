#include "scoring_call.h"

#include <utility>

namespace rm_grpc {

ScoringCall::ScoringCall(const Connection& connection, Owner& owner) : owner_(owner) {
    connection.prepare(context_);
    connection.stub().async()->ScoreBatch(&context_, this);
}

void ScoringCall::start() {
    AddHold();  // messages are written from other threads than those of the reactions
    StartRead(&response_);
    StartCall();
}

void ScoringCall::write(v1::ScoreBatchRequest message) {
    written_ = std::move(message);
    StartWrite(&written_);
}

void ScoringCall::half_close() { StartWritesDone(); }

void ScoringCall::release() { RemoveHold(); }

void ScoringCall::cancel() { context_.TryCancel(); }

void ScoringCall::OnReadDone(bool ok) {
    if (!ok) return owner_.on_end();
    owner_.on_response(response_);
    StartRead(&response_);
}

}  // namespace rm_grpc
