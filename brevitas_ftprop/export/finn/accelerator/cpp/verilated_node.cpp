// One node of FINN's RTL as Verilator translates it; a library that the simulation loads.
//
// Its weights, where WEIGHTS is defined, are those of in1.bin, over and over, as fast as it asks.

#include <unistd.h>

#include <cstring>
#include <type_traits>

#include "clocks.h"
#include "node.h"

namespace {

template <class Data>
constexpr size_t words_of() {
    return (sizeof(Data) + 3) / 4;
}

class VerilatedNode final : public Node {
  public:
    explicit VerilatedNode(const char* name) : dut_(&context_, name) {
        inputs.resize(1);
        outputs.resize(1);
        inputs[0].words.resize(words_of<decltype(dut_.in0_V_TDATA)>());
        outputs[0].words.resize(words_of<decltype(dut_.out0_V_TDATA)>());
#ifdef WEIGHTS
        weights_ = read_file<uint32_t>("in1.bin");
        if (weights_.empty() || weights_.size() % words_of<decltype(dut_.in1_V_TDATA)>() != 0)
            fail("in1.bin does not hold whole transactions of the port's width");
#endif
        reset(dut_);
    }
    ~VerilatedNode() override { dut_.final(); }

    void settle() override {
        copy(dut_.in0_V_TDATA, inputs[0].words.data());
        dut_.in0_V_TVALID = inputs[0].valid;
        dut_.out0_V_TREADY = outputs[0].ready;
#ifdef WEIGHTS
        copy(dut_.in1_V_TDATA, &weights_[next_weight_]);
        dut_.in1_V_TVALID = 1;
#endif
        ::settle(dut_);
        inputs[0].ready = dut_.in0_V_TREADY;
        outputs[0].valid = dut_.out0_V_TVALID;
        if (outputs[0].valid)
            std::memcpy(outputs[0].words.data(), &dut_.out0_V_TDATA, sizeof dut_.out0_V_TDATA);
    }

    void rise() override {
#ifdef WEIGHTS
        if (dut_.in1_V_TREADY) {
            next_weight_ += words_of<decltype(dut_.in1_V_TDATA)>();
            if (next_weight_ == weights_.size()) next_weight_ = 0;
        }
#endif
        ::rise(dut_);
        if (context_.gotFinish())
            fail("the RTL ended the simulation itself: see its message above");
    }

  private:
    template <class Data>
    static void copy(Data& port, const uint32_t* words) {
        std::memcpy(&port, words, sizeof(Data));
    }

    VerilatedContext context_;
    Vdut dut_;
#ifdef WEIGHTS
    std::vector<uint32_t> weights_;
    size_t next_weight_ = 0;
#endif
};

}  // namespace

// The node whose parameter files lie in a folder, which its RTL names relative to it, and which its
// own messages name.
extern "C" __attribute__((visibility("default"))) Node* make_node(const char* folder) {
    char before[4096];
    if (getcwd(before, sizeof before) == nullptr || chdir(folder) != 0)
        fail(std::string(folder) + " cannot be entered");
    Node* node = new VerilatedNode(folder);
    if (chdir(before) != 0) fail("the folder before cannot be entered");
    return node;
}
