// A growing buffer of ids that is written behind its end and handed on without a copy.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

namespace rm_grpc {

class Ids {
  public:
    Ids() = default;
    Ids(const Ids&) = delete;
    Ids& operator=(const Ids&) = delete;
    ~Ids() { std::free(begin_); }

    std::size_t size() const { return static_cast<std::size_t>(end_ - begin_); }
    const std::int32_t* data() const { return begin_; }

    // Room for `count` more, and where they begin; `close` says how far they were written.
    std::int32_t* open(std::size_t count) {
        const auto used = size();
        if (used + count > capacity_) {
            const auto wanted = used + count > 2 * capacity_ ? used + count : 2 * capacity_;
            auto* const moved = static_cast<std::int32_t*>(std::realloc(begin_, wanted * sizeof(std::int32_t)));
            if (moved == nullptr) throw std::bad_alloc();
            begin_ = moved;
            end_ = moved + used;
            capacity_ = wanted;
        }
        return end_;
    }

    void close(std::int32_t* end) { end_ = end; }

    // Gives the buffer away, cut to its size; to be given to std::free.
    std::int32_t* release() {
        const auto bytes = size() * sizeof(std::int32_t);
        auto* const kept = static_cast<std::int32_t*>(std::realloc(begin_, bytes == 0 ? 1 : bytes));
        if (kept == nullptr) throw std::bad_alloc();
        begin_ = end_ = nullptr;
        capacity_ = 0;
        return kept;
    }

  private:
    std::int32_t* begin_ = nullptr;
    std::int32_t* end_ = nullptr;
    std::size_t capacity_ = 0;
};

}  // namespace rm_grpc
