// Threads that share the tasks of one call, and wait for the next.
#pragma once

#include <cstddef>
#include <functional>

namespace rm_grpc {

// Runs work(task) for each task below `tasks`, on this thread and on up to `threads - 1` others. A second call at the same time
// runs on its own thread alone. What `work` throws comes out of here, once every thread has ended.
void run_tasks(std::size_t tasks, std::size_t threads, const std::function<void(std::size_t)>& work);

}  // namespace rm_grpc
