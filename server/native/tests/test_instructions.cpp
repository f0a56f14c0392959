// Each instruction set classifies bytes as the plain loop does.
#include <algorithm>
#include <array>
#include <cstring>

#include "check.h"
#include "instructions.h"
#include "texts.h"

namespace rm_grpc::tests {

namespace {

using Block = std::array<unsigned char, 64>;

void check_block(const Block& block) {
    AsciiMasks expected;
    instructions("scalar").classify(block.data(), expected);
    for (const auto& one : instructions()) {
        AsciiMasks found;
        std::memset(&found, 0xA5, sizeof found);
        one.classify(block.data(), found);
        const std::string_view bytes(reinterpret_cast<const char*>(block.data()), block.size());
        CHECK(std::memcmp(&found, &expected, sizeof found) == 0, one.name, quoted(bytes));
    }
}

}  // namespace

TEST(instructions, scalar_is_the_last) {
    CHECK(!instructions().empty());
    CHECK(instructions().back().name == "scalar");
    for (const auto& one : instructions()) CHECK(&instructions(one.name) == &one, one.name);
    try {
        instructions("of no processor");
    } catch (const std::invalid_argument&) {
        return;
    }
    CHECK(false, "an unknown name was found");
}

// What the masks mean, said once more.
TEST(instructions, every_byte) {
    for (unsigned byte = 0; byte < 256; ++byte) {
        Block block;
        block.fill(static_cast<unsigned char>(byte));
        AsciiMasks masks;
        instructions("scalar").classify(block.data(), masks);
        const auto all = [](bool set) { return set ? ~std::uint64_t{0} : 0; };
        const bool upper = byte >= 'A' && byte <= 'Z', lower = byte >= 'a' && byte <= 'z';
        CHECK(masks.high == all(byte >= 128), byte);
        CHECK(masks.letter == all(upper || lower), byte);
        CHECK(masks.upper == all(upper), byte);
        CHECK(masks.digit == all(byte >= '0' && byte <= '9'), byte);
        CHECK(masks.space == all(byte == ' '), byte);
        CHECK(masks.blank == all(byte == '\t' || byte == '\v' || byte == '\f'), byte);
        CHECK(masks.newline == all(byte == '\r' || byte == '\n'), byte);
        CHECK(masks.control == all(byte < 32 || byte == 127), byte);
        CHECK(masks.apostrophe == all(byte == '\''), byte);
        CHECK(masks.slash == all(byte == '/'), byte);
        check_block(block);
    }
}

TEST(instructions, every_byte_in_every_place) {
    for (const unsigned char filler : {0x00, 0x20, 0x61, 0x80, 0xFF}) {
        for (unsigned byte = 0; byte < 256; ++byte) {
            for (unsigned place = 0; place < 64; ++place) {
                Block block;
                block.fill(filler);
                block[place] = static_cast<unsigned char>(byte);
                check_block(block);
            }
        }
    }
}

TEST(instructions, random_blocks) {
    Random random(1);
    for (unsigned round = 0; round < 20'000; ++round) {
        const auto text = round % 2 == 0 ? random_text(random, 64) : random_bytes(random, 64);
        Block block;
        std::copy_n(text.begin(), block.size(), block.begin());
        check_block(block);
    }
}

TEST(instructions, any_alignment) {
    Random random(2);
    std::array<unsigned char, 192> bytes;
    for (auto& byte : bytes) byte = static_cast<unsigned char>(random.below(256));
    for (unsigned offset = 0; offset <= 128; ++offset) {
        Block copy;
        std::copy_n(bytes.begin() + offset, copy.size(), copy.begin());
        for (const auto& one : instructions()) {
            AsciiMasks there, here;
            one.classify(bytes.data() + offset, there);
            one.classify(copy.data(), here);
            CHECK(std::memcmp(&there, &here, sizeof here) == 0, one.name, offset);
        }
    }
}

}  // namespace rm_grpc::tests
