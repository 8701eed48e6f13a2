// StreamingSplit_hls: of each pixel the first channels to one stream and the next to another.

#pragma once

#include "../layer.h"

class SplitChannels final : public Layer {
  public:
    // Numbers: transactions of a pixel, of each output.
    explicit SplitChannels(const Parameters& given) : Layer(given), parts_(given.numbers) {}

  private:
    uint64_t reads() const override { return 1; }
    uint64_t writes() const override { return uint64_t{1} << stream_; }
    void iterate() override {
        given[stream_] = taken[0];
        if (++part_ < parts_[stream_]) return;
        part_ = 0;
        stream_ = (stream_ + 1) % parts_.size();
    }
    std::vector<int64_t> parts_;
    size_t stream_ = 0;
    int64_t part_ = 0;
};
