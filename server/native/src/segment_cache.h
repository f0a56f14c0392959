// Pieces of text between added tokens that were met before, and their ids: what a template writes, and the prompt of a group.
//
// A piece between added tokens is encoded by itself, so that its ids depend on its text alone.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "ids.h"
#include "large.h"

namespace rm_grpc {

class SegmentCache {
  public:
    SegmentCache() : slots_(kSlots), ring_(kRing) {}

    // Whether a piece is worth keeping: shorter ones are encoded as fast, longer ones seldom come again.
    static bool keeps(std::string_view text) { return text.size() >= kShortest && text.size() <= kLongest; }

    // Appends the ids of a piece, if it is known.
    bool append(std::string_view text, Ids& ids);

    // Remembers the piece last asked for: its ids are those behind the first `from`.
    void keep(std::string_view text, const Ids& ids, std::size_t from);

  private:
    // Where the ids and then the text of a piece lie in the ring, as if it had no end. What was written a whole ring ago is gone.
    struct Slot {
        std::uint64_t hash = 0, place = 0;
        std::uint32_t length = 0, count = 0;
    };

    static constexpr std::size_t kSlots = 1024, kShortest = 48, kLongest = 32768;
    static constexpr std::size_t kRing = std::size_t{4} << 20;

    std::vector<Slot> slots_;
    Large<unsigned char> ring_;
    std::uint64_t asked_ = 0;  // hash of the piece last asked for
    std::uint64_t written_ = 0;
};

}  // namespace rm_grpc
