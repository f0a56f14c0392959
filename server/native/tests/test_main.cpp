// Runs the tests of the groups that are named, or of all.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>

#include "check.h"

namespace {

bool passes(const rm_grpc::tests::Test& test) {
    const std::string name = std::string(test.group) + "." + std::string(test.name);
    const auto started = std::chrono::steady_clock::now();
    std::string fault;
    try {
        test.run();
    } catch (const std::exception& error) {
        fault = error.what();
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started;
    std::printf("%-6s %-48s %6.2f s\n", fault.empty() ? "ok" : "FAILED", name.c_str(), seconds.count());
    if (!fault.empty()) std::printf("       %s\n", fault.c_str());
    std::fflush(stdout);
    return fault.empty();
}

}  // namespace

int main(int count, char** arguments) {
    const std::vector<std::string_view> groups(arguments + 1, arguments + count);
    unsigned run = 0, failed = 0;
    for (const auto& test : rm_grpc::tests::all_tests()) {
        if (!groups.empty() && std::find(groups.begin(), groups.end(), test.group) == groups.end()) continue;
        ++run;
        if (!passes(test)) ++failed;
    }
    std::printf("%u tests, %u failed\n", run, failed);
    return run == 0 || failed != 0 ? 1 : 0;
}
