#include "rm_grpc_client/stream.h"

#include <utility>

#include "stream_driver.h"

namespace rm_grpc {

Stream::Stream(std::unique_ptr<StreamDriver> driver) noexcept : driver_(std::move(driver)) {}
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;
Stream::~Stream() = default;

std::uint64_t Stream::send(Item item) { return driver_->send(std::move(item)); }
std::uint64_t Stream::send(Input input) { return driver_->send({.input = std::move(input)}); }
void Stream::finish() { driver_->finish(); }
std::optional<Result> Stream::next() { return driver_->next(); }
void Stream::cancel(std::uint64_t index) { driver_->cancel(index); }
void Stream::cancel(std::string_view id) { driver_->cancel(id); }
void Stream::close() { driver_->close(); }

}  // namespace rm_grpc
