// All of a test framework that the tests of the core need.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace rm_grpc::tests {

class Failure : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Test {
    std::string_view group, name;
    void (*run)();
};

inline std::vector<Test>& all_tests() {
    static std::vector<Test> tests;
    return tests;
}

struct Registration {
    Registration(std::string_view group, std::string_view name, void (*run)()) { all_tests().push_back({group, name, run}); }
};

// Bytes as a C string literal has them, so that a failing text can be copied into a test of its own.
inline std::string quoted(std::string_view bytes) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    std::string out = "\"";
    bool escaped = false;
    for (const unsigned char byte : bytes) {
        const bool digit = (byte >= '0' && byte <= '9') || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'f');
        const bool plain = byte >= ' ' && byte < 0x7F && byte != '"' && byte != '\\' && byte != '?';
        if (plain && escaped && digit) out += "\"\"";  // or the escape would go on
        if (plain) {
            out += static_cast<char>(byte);
        } else {
            out += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
        }
        escaped = !plain;
    }
    return out + '"';
}

template <class... Parts>
[[noreturn]] void fail(const char* file, int line, const char* condition, const Parts&... parts) {
    std::ostringstream message;
    message << file << ':' << line << ": " << condition;
    ((message << ' ' << parts), ...);
    throw Failure(message.str());
}

}  // namespace rm_grpc::tests

// What follows the condition is written behind a failure, and only then evaluated.
#define CHECK(condition, ...) \
    (static_cast<bool>(condition) ? void() : ::rm_grpc::tests::fail(__FILE__, __LINE__, #condition __VA_OPT__(, ) __VA_ARGS__))

#define TEST(group, name)                                                                                          \
    static void test_##group##_##name();                                                                           \
    static const ::rm_grpc::tests::Registration registered_##group##_##name(#group, #name, test_##group##_##name); \
    static void test_##group##_##name()
