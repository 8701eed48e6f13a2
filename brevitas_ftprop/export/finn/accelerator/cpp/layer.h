// A layer that FINN writes in HLS: a loop that starts an iteration in every cycle, if it can. Its
// result leaves in the next one; how many cycles later it does in hardware is for Vitis to decide.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "element.h"
#include "node.h"

using Values = std::vector<double>;

// What a layer is made with.
struct Parameters {
    std::vector<Element> inputs, outputs;
    std::vector<int64_t> numbers;
    std::vector<Values> arrays;
};

class Layer : public Node {
  public:
    explicit Layer(const Parameters& given)
        : taken(given.inputs.size()),
          given(given.outputs.size()),
          ins_(given.inputs),
          outs_(given.outputs) {
        inputs.resize(ins_.size());
        outputs.resize(outs_.size());
        for (size_t i = 0; i < ins_.size(); ++i) inputs[i].words.resize(ins_[i].words());
        for (size_t i = 0; i < outs_.size(); ++i) {
            outputs[i].words.resize(outs_[i].words());
            this->given[i].resize(outs_[i].count);
        }
    }

    void settle() final {
        const uint64_t wanted = reads(), made = writes();
        // A result leaves a cycle after its iteration; its place is free again as it leaves.
        room_ = true;
        for (size_t i = 0; i < outputs.size(); ++i)
            if (made >> i & 1 && outputs[i].valid && !outputs[i].ready) room_ = false;
        fed_ = true;
        for (size_t i = 0; i < inputs.size(); ++i)
            if (wanted >> i & 1 && !inputs[i].valid) fed_ = false;
        for (size_t i = 0; i < inputs.size(); ++i)
            inputs[i].ready = wanted >> i & 1 && room_ && fed_;
    }

    void rise() final {
        for (Port& port : outputs)
            if (port.valid && port.ready) port.valid = false;
        if (!(room_ && fed_)) return;
        const uint64_t wanted = reads(), made = writes();
        for (size_t i = 0; i < inputs.size(); ++i)
            if (wanted >> i & 1) ins_[i].unpack(inputs[i].words, taken[i]);
        iterate();
        for (size_t i = 0; i < outputs.size(); ++i)
            if (made >> i & 1) {
                outs_[i].pack(given[i], outputs[i].words);
                outputs[i].valid = true;
            }
    }

    State state() const final {
        return !room_ ? State::kBlocked : !fed_ ? State::kStarved : State::kBusy;
    }

    bool lacks(size_t input) const final { return reads() >> input & 1 && !inputs[input].valid; }

  protected:
    // The inputs that the next iteration reads and the outputs that it writes, a bit for each.
    virtual uint64_t reads() const = 0;
    virtual uint64_t writes() const = 0;
    // One iteration: from what was taken to what is given.
    virtual void iterate() = 0;

    std::vector<Values> taken, given;

  private:
    std::vector<Element> ins_, outs_;
    bool room_ = true, fed_ = true;
};
