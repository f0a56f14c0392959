#include "crew.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace rm_grpc {

namespace {

struct Job {
    const std::function<void(std::size_t)>& work;
    const std::size_t tasks;
    std::atomic<std::size_t> next{0};
    std::mutex mutex;
    std::exception_ptr error;

    void take_part() {
        try {
            for (auto task = next++; task < tasks; task = next++) work(task);
        } catch (...) {
            next = tasks;
            const std::lock_guard lock(mutex);
            error = std::current_exception();
        }
    }
};

// A process that was forked off has no members; nobody but the caller takes part there, and nobody waits for more.
class Crew {
public:
    void run(Job& job, std::size_t helpers) {
        const std::unique_lock alone(busy_, std::try_to_lock);
        if (!alone.owns_lock()) return job.take_part();
        {
            const std::lock_guard lock(mutex_);
            while (members_.size() < helpers) members_.emplace_back([this] { serve(); });
            job_ = &job;
            seats_ = helpers;
        }
        wake_.notify_all();
        job.take_part();
        std::unique_lock lock(mutex_);
        job_ = nullptr;
        seats_ = 0;
        done_.wait(lock, [this] { return working_ == 0; });
    }

private:
    void serve() {
        std::unique_lock lock(mutex_);
        while (true) {
            wake_.wait(lock, [this] { return seats_ > 0; });
            --seats_;
            ++working_;
            auto& job = *job_;
            lock.unlock();
            job.take_part();
            lock.lock();
            if (--working_ == 0) done_.notify_one();
        }
    }

    std::mutex busy_, mutex_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> members_;
    Job* job_ = nullptr;
    std::size_t seats_ = 0, working_ = 0;
};

Crew& crew() {
    static auto* const one = new Crew;  // never ended: its members wait until the process does
    return *one;
}

}  // namespace

void run_tasks(std::size_t tasks, std::size_t threads, const std::function<void(std::size_t)>& work) {
    Job job{work, tasks, {}, {}, {}};
    if (threads <= 1 || tasks <= 1)
        job.take_part();
    else
        crew().run(job, std::min(threads, tasks) - 1);
    if (job.error) std::rethrow_exception(job.error);
}

}  // namespace rm_grpc
