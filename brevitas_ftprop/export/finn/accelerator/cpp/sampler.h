// What the simulation's own processor time goes into: now and then it is looked at what it does.

#pragma once

#include <csignal>
#include <cstdint>
#include <vector>

#include <sys/time.h>

class Sampler {
  public:
    explicit Sampler(size_t parts) {
        counts_.assign(parts, 0);
        struct sigaction action = {};
        action.sa_handler = [](int) { ++counts_[current_]; };
        action.sa_flags = SA_RESTART;
        sigaction(SIGPROF, &action, nullptr);
        run(kMicroseconds);
    }
    ~Sampler() { run(0); }
    void enter(size_t part) { current_ = static_cast<std::sig_atomic_t>(part); }
    static const std::vector<uint64_t>& counts() { return counts_; }

  private:
    static constexpr int kMicroseconds = 1000;
    static void run(int microseconds) {
        const timeval each = {0, microseconds};
        const itimerval timer = {each, each};
        setitimer(ITIMER_PROF, &timer, nullptr);
    }
    static inline std::vector<uint64_t> counts_;
    static inline volatile std::sig_atomic_t current_ = 0;
};
