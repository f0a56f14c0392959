// A stream of items and results.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "rm_grpc_client/item.h"
#include "rm_grpc_client/result.h"

namespace rm_grpc {

class Client;
class StreamDriver;

/// Items out, results back as they are ready: exactly one for each item, whatever happens to the connection. A lost
/// connection is opened again, and what has no result is sent again.
///
/// Every member may be called from any thread at any time. The destructor cancels what is left and waits for the stream's
/// own thread; nobody may be inside a member then.
class Stream {
  public:
    Stream(Stream&&) noexcept;
    Stream& operator=(Stream&&) noexcept;
    ~Stream();

    /// Sends an item and returns its position. Waits while as many items as the server's window holds are without a result
    /// that was read: a thread that sends many should not be the one that reads.
    ///
    /// An item that cannot be sent (text that is not UTF-8, a negative timeout) is no exception: its result says so.
    /// @throws StreamError the stream has failed. @throws std::logic_error after `finish`.
    std::uint64_t send(Item item);
    std::uint64_t send(Input input);

    /// Says that no more items come.
    void finish();

    /// The next result, waiting for it; none after the last.
    /// @throws StreamError the stream has failed, every time.
    std::optional<Result> next();

    /// Takes an item back. It still gets its result: CANCELLED, unless the server has scored it already.
    void cancel(std::uint64_t index);
    /// Takes back every item of that id that has no result yet.
    void cancel(std::string_view id);

    /// Ends the stream at once. Who waits in `send` or `next`, or calls them later, gets a StreamError with CANCELLED once
    /// the results that are there are read.
    void close();

  private:
    friend class Client;
    explicit Stream(std::unique_ptr<StreamDriver> driver) noexcept;

    std::unique_ptr<StreamDriver> driver_;
};

}  // namespace rm_grpc
