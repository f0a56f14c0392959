#include "address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <string>

namespace rm_grpc {

namespace {

bool take_prefix(std::string_view& text, std::string_view prefix) {
    if (!text.starts_with(prefix)) return false;
    text.remove_prefix(prefix.size());
    return true;
}

// The host of host:port, [host]:port or a bare host.
std::string host_of(std::string_view text) {
    if (text.starts_with('[')) {
        const auto end = text.find(']');
        return end == std::string_view::npos ? std::string() : std::string(text.substr(1, end - 1));
    }
    const bool has_port = std::count(text.begin(), text.end(), ':') == 1;
    return std::string(has_port ? text.substr(0, text.find(':')) : text);
}

bool is_localhost(std::string_view host) {
    constexpr std::string_view kName = "localhost";
    return std::equal(host.begin(), host.end(), kName.begin(), kName.end(),
                      [](char one, char other) { return (one >= 'A' && one <= 'Z' ? one - 'A' + 'a' : one) == other; });
}

}  // namespace

bool is_local(std::string_view address) {
    if (address.starts_with("unix:") || address.starts_with("unix-abstract:")) return true;
    if (!take_prefix(address, "dns:///") && !take_prefix(address, "dns:") && !take_prefix(address, "ipv4:"))
        take_prefix(address, "ipv6:");
    const auto host = host_of(address);
    if (is_localhost(host)) return true;
    if (in_addr v4{}; inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
    in6_addr v6{};
    return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

}  // namespace rm_grpc
