// StreamingConcat_hls: of each pixel the channels of one stream behind those of the other.

#pragma once

#include "../layer.h"

class JoinChannels final : public Layer {
  public:
    // Numbers: transactions of a pixel, of each input.
    explicit JoinChannels(const Parameters& given) : Layer(given), parts_(given.numbers) {}

  private:
    uint64_t reads() const override { return uint64_t{1} << stream_; }
    uint64_t writes() const override { return 1; }
    void iterate() override {
        given[0] = taken[stream_];
        if (++part_ < parts_[stream_]) return;
        part_ = 0;
        stream_ = (stream_ + 1) % parts_.size();
    }
    std::vector<int64_t> parts_;
    size_t stream_ = 0;
    int64_t part_ = 0;
};
