#include "address.h"

#include <doctest/doctest.h>

#include <string>

namespace rm_grpc {

TEST_CASE("addresses of this machine") {
    for (const std::string address :
         {"localhost:50051", "LocalHost:1", "localhost", "127.0.0.1:50051", "127.8.9.10:1", "127.0.0.1", "[::1]:50051",
          "::1", "[0:0:0:0:0:0:0:1]:1", "unix:/run/rm.sock", "unix:///run/rm.sock", "unix-abstract:rm", "dns:///localhost:1",
          "dns:localhost:1", "ipv4:127.0.0.1:1", "ipv6:[::1]:1"}) {
        CAPTURE(address);
        CHECK(is_local(address));
    }
}

TEST_CASE("addresses of other machines, or of nobody knows where") {
    for (const std::string address :
         {"", ":1", "example.com:50051", "localhost.example.com:1", "127.0.0.1.example.com:1", "127.1:1", "128.0.0.1:1",
          "0.0.0.0:1", "[::]:1", "[::2]:1", "[::1", "[]:1", "10.0.0.1:1", "notunix:/x", "dns://8.8.8.8/localhost:1",
          "dns:///localhost%2eexample.com:1", "ipv4:127.0.0.1:1,8.8.8.8:1", "xds:///localhost:1"}) {
        CAPTURE(address);
        CHECK_FALSE(is_local(address));
    }
}

}  // namespace rm_grpc
