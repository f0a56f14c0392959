// Tasks that threads share: each is run once, whoever calls and whatever is thrown.
#include <atomic>
#include <thread>

#include "check.h"
#include "crew.h"

namespace rm_grpc::tests {

TEST(crew, once_each) {
    for (std::size_t threads = 0; threads < 6; ++threads)
        for (std::size_t tasks = 0; tasks < 300; tasks = 2 * tasks + 1) {
            std::vector<std::atomic<unsigned>> runs(tasks);
            run_tasks(tasks, threads, [&](std::size_t task) { ++runs[task]; });
            for (std::size_t task = 0; task < tasks; ++task) CHECK(runs[task] == 1, threads, tasks, task, runs[task]);
        }
}

TEST(crew, callers_at_once) {
    std::vector<std::size_t> sums(4);
    std::vector<std::thread> callers;
    for (auto& sum : sums)
        callers.emplace_back([&sum] {
            for (unsigned round = 0; round < 500; ++round) {
                std::atomic<std::size_t> here{0};
                run_tasks(20, 3, [&](std::size_t task) { here += task; });
                sum += here;
            }
        });
    for (auto& caller : callers) caller.join();
    for (const auto sum : sums) CHECK(sum == 500 * 190, sum);
}

TEST(crew, thrown) {
    for (std::size_t threads = 1; threads < 4; ++threads)
        for (std::size_t guilty = 0; guilty < 20; ++guilty) {
            bool thrown = false;
            try {
                run_tasks(20, threads, [&](std::size_t task) {
                    if (task == guilty) throw std::out_of_range("this one");
                });
            } catch (const std::out_of_range&) {
                thrown = true;
            }
            CHECK(thrown, threads, guilty);
        }
    std::atomic<unsigned> runs{0};
    run_tasks(20, 3, [&](std::size_t) { ++runs; });
    CHECK(runs == 20, runs);
}

}  // namespace rm_grpc::tests
