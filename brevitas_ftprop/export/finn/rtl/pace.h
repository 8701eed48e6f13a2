// Random pauses of a stream.

#pragma once

#include <cstdint>

// Says "go" or "wait" in runs of random length; always "go" where the seed is 0.
class Pace {
  public:
    explicit Pace(uint64_t seed) : state_(seed), free_(seed == 0) {}
    bool go() {
        if (free_) return true;
        if (left_ == 0) {
            going_ = !going_;
            left_ = 1 + draw() % (draw() % 4 == 0 ? kLongestRun : 3);
        }
        --left_;
        return going_;
    }

  private:
    static constexpr int kLongestRun = 40;
    uint64_t draw() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_ >> 11;
    }
    uint64_t state_;
    bool free_;
    bool going_ = false;
    uint64_t left_ = 0;
};
