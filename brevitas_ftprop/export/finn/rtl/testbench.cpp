// Feeds one FINN node from files, transaction by transaction, and records what it answers.
//
// Reads in0.bin (and in1.bin, over and over, where WEIGHTS is defined) and writes out0.bin and
// cycles.bin: the words of each output transaction and the clock cycle in which it was taken.
// Every transaction is a whole number of 32-bit words, least significant first.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "clocks.h"
#include "pace.h"

namespace {

constexpr int kDrainCycles = 256;

[[noreturn]] void fail(const std::string& why) {
    std::fprintf(stderr, "%s\n", why.c_str());
    std::exit(2);
}

template <class Port>
constexpr size_t words_of() {
    return (sizeof(Port) + 3) / 4;
}

template <class Port>
std::vector<uint32_t> read_transactions(const char* name) {
    std::FILE* file = std::fopen(name, "rb");
    if (file == nullptr) fail(std::string(name) + " cannot be read");
    std::vector<uint32_t> words;
    uint32_t buffer[4096];
    size_t got;
    while ((got = std::fread(buffer, 4, 4096, file)) > 0)
        words.insert(words.end(), buffer, buffer + got);
    std::fclose(file);
    if (words.empty() || words.size() % words_of<Port>() != 0)
        fail(std::string(name) + " does not hold whole transactions of the port's width");
    return words;
}

// A stream into the node: once offered, a transaction stays until it is taken.
template <class Port>
class Source {
  public:
    Source(const char* name, bool cyclic, uint64_t seed)
        : words_(read_transactions<Port>(name)), cyclic_(cyclic), pace_(seed) {}
    void offer(Port& data, CData& valid) {
        if (!offered_) offered_ = next_ < words_.size() && pace_.go();
        valid = offered_;
        if (offered_) std::memcpy(&data, &words_[next_], sizeof(Port));
    }
    bool take(bool ready) {
        if (!(offered_ && ready)) return false;
        offered_ = false;
        next_ += words_of<Port>();
        if (cyclic_ && next_ == words_.size()) next_ = 0;
        ++taken_;
        return true;
    }
    uint64_t taken() const { return taken_; }

  private:
    std::vector<uint32_t> words_;
    bool cyclic_;
    Pace pace_;
    size_t next_ = 0;
    bool offered_ = false;
    uint64_t taken_ = 0;
};

void write_file(const char* name, const void* data, size_t bytes) {
    std::FILE* file = std::fopen(name, "wb");
    if (file == nullptr || std::fwrite(data, 1, bytes, file) != bytes || std::fclose(file) != 0)
        fail(std::string(name) + " cannot be written");
}

}  // namespace

// Arguments: number of output transactions to wait for, most cycles to run, seed (0: no pauses).
int main(int argc, char** argv) {
    if (argc != 4) fail("wrong number of arguments");
    const uint64_t wanted = std::strtoull(argv[1], nullptr, 10);
    const uint64_t limit = std::strtoull(argv[2], nullptr, 10);
    const uint64_t seed = std::strtoull(argv[3], nullptr, 10);

    VerilatedContext context;
    Vdut dut{&context};
    using Out = std::remove_reference_t<decltype(dut.out0_V_TDATA)>;
    Source<std::remove_reference_t<decltype(dut.in0_V_TDATA)>> in0{"in0.bin", false, seed};
#ifdef WEIGHTS
    Source<std::remove_reference_t<decltype(dut.in1_V_TDATA)>> in1{"in1.bin", true, seed * 3};
#endif
    Pace sink{seed * 5};

    reset(dut);

    std::vector<uint32_t> answers;
    std::vector<uint64_t> taken_at;
    uint64_t first_input = 0, unstable = 0, cycle = 0;
    uint64_t drain = 0;
    bool stalled = false;
    Out held{};
    for (; cycle < limit && drain < kDrainCycles && !context.gotFinish(); ++cycle) {
        in0.offer(dut.in0_V_TDATA, dut.in0_V_TVALID);
#ifdef WEIGHTS
        in1.offer(dut.in1_V_TDATA, dut.in1_V_TVALID);
#endif
        dut.out0_V_TREADY = sink.go();
        settle(dut);
        if (stalled && (!dut.out0_V_TVALID ||
                        std::memcmp(&held, &dut.out0_V_TDATA, sizeof(Out)) != 0))
            ++unstable;
        if (in0.take(dut.in0_V_TREADY) && in0.taken() == 1) first_input = cycle;
#ifdef WEIGHTS
        in1.take(dut.in1_V_TREADY);
#endif
        stalled = dut.out0_V_TVALID && !dut.out0_V_TREADY;
        std::memcpy(&held, &dut.out0_V_TDATA, sizeof(Out));
        if (dut.out0_V_TVALID && dut.out0_V_TREADY) {
            const size_t end = answers.size();
            answers.resize(end + words_of<Out>(), 0);
            std::memcpy(&answers[end], &dut.out0_V_TDATA, sizeof(Out));
            taken_at.push_back(cycle);
        }
        if (taken_at.size() >= wanted) ++drain;
        rise(dut);
    }
    dut.final();
    if (context.gotFinish()) fail("the RTL ended the simulation itself: see its message above");

    write_file("out0.bin", answers.data(), answers.size() * sizeof(uint32_t));
    write_file("cycles.bin", taken_at.data(), taken_at.size() * sizeof(uint64_t));
    std::printf("first_input=%llu unstable=%llu inputs=%llu cycles=%llu\n",
                static_cast<unsigned long long>(first_input),
                static_cast<unsigned long long>(unstable),
                static_cast<unsigned long long>(in0.taken()),
                static_cast<unsigned long long>(cycle));
    return 0;
}
