// MVAU_hls: matrix-vector product, SIMD inputs and PE outputs a cycle, with thresholds or without.

#pragma once

#include "../layer.h"

class MatrixVector final : public Layer {
  public:
    // Numbers: 1 to count equal values instead of adding products; thresholds of an output (0: the
    // sum itself); what is added to their count; the factor of the count;
    // inputs of the matrix.
    // Arrays: weights (outputs, inputs), thresholds (outputs, thresholds).
    explicit MatrixVector(const Parameters& given)
        : Layer(given),
          counts_equal_(given.numbers[0]),
          steps_(given.numbers[1]),
          bias_(given.numbers[2]),
          factor_(given.numbers[3]),
          width_(given.numbers[4]),
          simd_(given.inputs[0].count),
          weights_(given.arrays[0]),
          thresholds_(given.arrays[1]),
          vector_(width_),
          sums_(given.outputs[0].count) {}

  private:
    uint64_t reads() const override { return row_ == 0; }
    uint64_t writes() const override { return column_ + simd_ == width_; }
    void iterate() override {
        if (row_ == 0) std::copy(taken[0].begin(), taken[0].end(), vector_.begin() + column_);
        for (size_t pe = 0; pe < sums_.size(); ++pe) {
            const double* weights = &weights_[(row_ + pe) * width_];
            double sum = column_ == 0 ? 0 : sums_[pe];
            for (size_t i = column_; i < column_ + simd_; ++i)
                sum += counts_equal_ ? vector_[i] == weights[i] : vector_[i] * weights[i];
            sums_[pe] = sum;
        }
        column_ += simd_;
        if (column_ < width_) return;
        for (size_t pe = 0; pe < sums_.size(); ++pe) given[0][pe] = result(pe);
        column_ = 0;
        row_ += sums_.size();
        if (row_ * width_ == weights_.size()) row_ = 0;
    }
    double result(size_t pe) const {
        if (steps_ == 0) return sums_[pe];
        int64_t count = 0;
        for (int64_t i = 0; i < steps_; ++i)
            count += sums_[pe] >= thresholds_[(row_ + pe) * steps_ + i];
        return static_cast<double>(factor_ * count + bias_);
    }
    int64_t counts_equal_, steps_, bias_, factor_;
    size_t width_, simd_;
    Values weights_, thresholds_, vector_, sums_;
    size_t row_ = 0, column_ = 0;
};
