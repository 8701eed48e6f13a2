// How the nodes spent their cycles and how full the FIFOs were, piece by piece.

#pragma once

#include <cstdint>
#include <vector>

class Timeline {
  public:
    // Of each node the cycles it was busy, starved and blocked so far, then the fill of each FIFO.
    explicit Timeline(size_t nodes, size_t fifos)
        : counters_(3 * nodes), width_(counters_ + fifos), before_(counters_) {}
    bool is_due(uint64_t cycle) const { return (cycle + 1) % stride_ == 0; }
    void add(const std::vector<uint64_t>& now) {
        for (size_t i = 0; i < width_; ++i)
            pieces_.push_back(static_cast<uint32_t>(i < counters_ ? now[i] - before_[i] : now[i]));
        before_.assign(now.begin(), now.begin() + static_cast<std::ptrdiff_t>(counters_));
        if (pieces_.size() == kMost * width_) halve();
    }
    uint64_t stride() const { return stride_; }
    const std::vector<uint32_t>& pieces() const { return pieces_; }

  private:
    static constexpr size_t kMost = 512;
    void halve() {
        for (size_t piece = 0; piece < kMost / 2; ++piece)
            for (size_t i = 0; i < width_; ++i) {
                const uint32_t first = pieces_[2 * piece * width_ + i];
                const uint32_t second = pieces_[(2 * piece + 1) * width_ + i];
                pieces_[piece * width_ + i] = i < counters_ ? first + second : second;
            }
        pieces_.resize(kMost / 2 * width_);
        stride_ *= 2;
    }
    size_t counters_, width_;
    uint64_t stride_ = 1;
    std::vector<uint64_t> before_;
    std::vector<uint32_t> pieces_;
};
