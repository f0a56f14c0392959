#include "utf8.h"

#include <doctest/doctest.h>

#include <string>

namespace rm_grpc {

using namespace std::string_view_literals;

TEST_CASE("UTF-8") {
    for (const auto text :
         {""sv, "plain"sv, "\0\x7F"sv, "\xC2\x80\xDF\xBF"sv, "\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF"sv,
          "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"sv, "naïve 🗝"sv}) {
        CAPTURE(text);
        CHECK(is_utf8(text));
    }
}

TEST_CASE("no UTF-8: stray and missing followers, overlong forms, surrogates, and what is above U+10FFFF") {
    for (const auto text : {"\x80"sv, "\xBF"sv, "\xC2"sv, "\xC2z"sv, "\xC0\x80"sv, "\xC1\xBF"sv, "\xE0\x9F\xBF"sv,
                            "\xE1\x80"sv, "\xED\xA0\x80"sv, "\xF0\x8F\xBF\xBF"sv, "\xF1\x80\x80"sv, "\xF4\x90\x80\x80"sv,
                            "\xF5\x80\x80\x80"sv, "\xFF"sv, "a\xE2\x82"sv}) {
        CAPTURE(text);
        CHECK_FALSE(is_utf8(text));
    }
}

}  // namespace rm_grpc
