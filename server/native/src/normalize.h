// Unicode normalisation form C as the `tokenizers` library has it, whose tables for it lag behind its others.
#pragma once

#include <string>
#include <string_view>

namespace rm_grpc {

// Whether `to_nfc` would leave `utf8` as it is. For rare sequences of marks it errs towards
// false; it never errs towards true.
bool is_nfc(std::string_view utf8) noexcept;

// Puts the NFC of `utf8` into `out`, in place of what it held; `utf8` must not lie there.
void to_nfc(std::string_view utf8, std::string& out);

}  // namespace rm_grpc
