// UpsampleNearestNeighbour_hls: every pixel several times in its row, and every row several times.

#pragma once

#include "../layer.h"

class Upsampling final : public Layer {
  public:
    // Numbers: factors of height and width; width of the image; transactions of a pixel.
    explicit Upsampling(const Parameters& given)
        : Layer(given), tall_(given.numbers[0]), wide_(given.numbers[1]), width_(given.numbers[2]),
          pixel_(given.numbers[3]), row_(width_ * pixel_) {}

  private:
    uint64_t reads() const override { return copy_of_row_ == 0 && copy_of_pixel_ == 0; }
    uint64_t writes() const override { return 1; }
    void iterate() override {
        Values& kept = row_[column_ * pixel_ + part_];
        if (reads()) kept = taken[0];
        given[0] = kept;
        // From the innermost loop outwards.
        if (++part_ < pixel_) return;
        part_ = 0;
        if (++copy_of_pixel_ < wide_) return;
        copy_of_pixel_ = 0;
        if (++column_ < width_) return;
        column_ = 0;
        copy_of_row_ = (copy_of_row_ + 1) % tall_;
    }
    int64_t tall_, wide_, width_, pixel_;
    std::vector<Values> row_;
    int64_t part_ = 0, copy_of_pixel_ = 0, column_ = 0, copy_of_row_ = 0;
};
