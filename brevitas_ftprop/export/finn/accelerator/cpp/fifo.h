// A first-in, first-out queue between two nodes; what goes in can be taken out a cycle later.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

class Fifo {
  public:
    // A depth of 0 is one without a bound.
    Fifo(size_t words, size_t depth)
        : words_(words), depth_(depth), ring_(words * (depth ? depth : 64)) {}
    bool empty() const { return fill_ == 0; }
    bool full() const { return depth_ != 0 && fill_ == depth_; }
    size_t words() const { return words_; }
    size_t fill() const { return fill_; }
    size_t largest() const { return largest_; }
    const uint32_t* front() const { return &ring_[first_ * words_]; }

    void push(const uint32_t* transaction) {
        if (fill_ * words_ == ring_.size()) grow();
        const size_t last = (first_ + fill_) % capacity();
        std::copy(transaction, transaction + words_, &ring_[last * words_]);
        largest_ = std::max(largest_, ++fill_);
    }
    void pop() {
        first_ = (first_ + 1) % capacity();
        --fill_;
    }

  private:
    size_t capacity() const { return ring_.size() / words_; }
    void grow() {
        std::rotate(ring_.begin(), ring_.begin() + first_ * words_, ring_.end());
        first_ = 0;
        ring_.resize(2 * ring_.size());
    }
    size_t words_, depth_;
    std::vector<uint32_t> ring_;
    size_t first_ = 0, fill_ = 0, largest_ = 0;
};
